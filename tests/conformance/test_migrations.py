"""Installers in every order: whoever came first or last, all kinds of workers run on what is there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.conformance.programs import KINDS
from tests.conformance.stage import Stage
from tests.interop.installed import lacks_nothing_of_ours, ledger

pytestmark = pytest.mark.interop

HIGHEST = {"node17": 19, "node18": 20, "ours": 20, "rust": 22}
BREAKING = {1, 3, 11, 13, 14, 16}
"""In the ledger of everybody. Of 19 whoever wrote it first says whether it is: see "Revision 19"."""
NOT_BREAKING_19 = {"rust"}


def ledger_after(order: Sequence[str]) -> dict[int, bool]:
    """Return what the ledger says when these have installed the schema one after the other."""
    found: dict[int, bool] = {}
    for kind in order:
        for number in range(1, HIGHEST[kind] + 1):
            breaking = number in BREAKING or (number == 19 and kind not in NOT_BREAKING_19)
            found.setdefault(number, breaking)
    return found


ORDERS = [order for count in (1, 2) for order in itertools.permutations(KINDS, count)]
LONG_ORDERS = [order for count in (3, 4) for order in itertools.permutations(KINDS, count)]


async def install_in_order(stage: Stage, order: Sequence[str]) -> None:
    peers = [await stage.peer(kind) for kind in order]
    first = peers[0]
    await first.ask("migrate")
    await first.ask("work", concurrency=2)
    jobs = [await first.add({"by": first.kind}, queue_name="q")]
    for peer in peers[1:]:
        await peer.ask("migrate")
        jobs.append(await peer.add({"by": peer.kind}, queue_name="q", job_key=peer.kind))
    await stage.wait_settled()
    assert [run.job_id for run in await stage.runs()] == jobs
    assert {run.side for run in await stage.runs()} == {first.kind}
    await first.ask("stop")

    assert await ledger(stage.database) == ledger_after(order)
    if "ours" in order:
        assert await lacks_nothing_of_ours(stage.database)
    for adder, runner in itertools.permutations(peers, 2):
        failing = await adder.add({"error": "no luck"}, max_attempts=1)
        job = await adder.add({}, queue_name="q")
        await runner.ask("work")
        await stage.wait_finished(job)
        await runner.ask("stop")
        await stage.wait_settled(1)
        assert list(await stage.rows()) == [failing]
        await adder.ask("complete", ids=[failing])


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
async def test_one_installs_over_another(empty_stage: Stage, order: tuple[str, ...]) -> None:
    """The first one's worker runs all the time, and runs what everybody adds, on every schema."""
    await install_in_order(empty_stage, order)


@pytest.mark.exhaustive
@pytest.mark.parametrize("order", LONG_ORDERS, ids="-".join)
async def test_more_install_over_each_other(empty_stage: Stage, order: tuple[str, ...]) -> None:
    await install_in_order(empty_stage, order)
