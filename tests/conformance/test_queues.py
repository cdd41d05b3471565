"""Named queues are serial across all kinds of workers."""

from __future__ import annotations

import collections
import itertools

import pytest
import trio

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Stage, pairs

pytestmark = [pytest.mark.interop, pytest.mark.dealt]

QUEUES = ("red", "green", None)
JOBS = 12
"""How many each worker adds."""
ONE_BY_ONE: dict[str, int] = {}
BATCHES = {"ours": 5, "node18": 5}
"""How many jobs those take at once that never take two of a queue: see "Batches" in docs/compatibility.md."""
COMPANIES = [*itertools.combinations(KINDS, 2), KINDS]


async def add_all(peer: Peer) -> None:
    for number in range(JOBS):
        queue = QUEUES[number % len(QUEUES)]
        await peer.add({"queue": queue, "seconds": 0.005}, queue_name=queue)


@pytest.mark.parametrize("sizes", [ONE_BY_ONE, BATCHES], ids=["one at a time", "in batches"])
@pytest.mark.parametrize("company", COMPANIES, ids="-and-".join)
async def test_each_job_runs_once_and_no_two_of_a_queue_at_once(
    stage: Stage, company: tuple[str, ...], sizes: dict[str, int]
) -> None:
    peers = [await stage.peer(kind) for kind in company]
    for peer in peers:
        await peer.ask("work", concurrency=3, batch=sizes.get(peer.kind, 0))
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(add_all, peer)
    await stage.wait_settled()
    counts = collections.Counter(run.job_id for run in await stage.runs())
    assert (len(counts), set(counts.values())) == (len(peers) * JOBS, {1})
    assert await stage.overlapping() == 0


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-to-".join)
async def test_a_queue_keeps_its_order(stage: Stage, pair: tuple[str, str]) -> None:
    adder, runner = [await stage.peer(kind) for kind in pair]
    jobs = [await adder.add({"queue": "q"}, queue_name="q") for _ in range(4)]
    urgent = await adder.add({"queue": "q"}, queue_name="q", priority=-1)
    await runner.ask("work", concurrency=3)
    await stage.wait_settled()
    assert [run.job_id for run in await stage.runs()] == [urgent, *jobs]


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-beside-".join)
async def test_a_busy_queue_keeps_nothing_else_waiting(stage: Stage, pair: tuple[str, str]) -> None:
    idle, busy = [await stage.peer(kind) for kind in pair]
    await stage.close_gate()
    held = await busy.add({"held": True}, queue_name="q")
    await busy.ask("work")
    await stage.wait_started(1)
    behind = await idle.add({}, queue_name="q")
    other = await idle.add({}, queue_name="other")
    free = await idle.add({})
    await idle.ask("work")
    await stage.wait_until("select count(*) = 2 from graphile_worker.jobs")  # those of the busy queue
    assert sorted(run.job_id for run in await stage.runs()) == [held, other, free]
    assert await stage.locked_queues() == ["q"]
    await stage.open_gate()
    await stage.wait_settled()
    assert (await stage.runs())[-1].job_id == behind
