"""One kind of worker has a bad network; another works beside it. Nothing is lost, and queues stay serial."""

from __future__ import annotations

import pytest
import trio

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Stage, pairs
from tests.faults.network import Proxy, open_proxy

pytestmark = pytest.mark.interop

JOBS = 12


async def cut(proxy: Proxy) -> None:
    proxy.reset()


async def freeze(proxy: Proxy) -> None:
    """Let nothing pass until somebody waits for it, and then all."""
    proxy.freeze()
    with trio.move_on_after(5.0):
        await proxy.holding.wait()
    await proxy.heal()


async def shut(proxy: Proxy) -> None:
    """Break all connections, and refuse new ones until a while later."""
    proxy.refuse()
    proxy.reset()
    await trio.sleep(0.3)
    await proxy.heal()


FAULTS = {"frozen": freeze, "cut": cut, "shut out": shut}
BREAKS = {"cut", "shut out"}
"""What workers of Node and Rust need somebody's help after."""


async def add_jobs(adder: Peer) -> None:
    for number in range(JOBS):
        queue = ("q", "r", None)[number % 3]
        await adder.add({"queue": queue, "seconds": 0.005}, queue_name=queue)


async def check_all_ran(stage: Stage, *, once: bool) -> None:
    """Each job ran to its end, no two of a queue at once, and perhaps no job twice."""
    await stage.wait_settled()
    runs = await stage.runs()
    assert len({run.job_id for run in runs if run.finished}) == JOBS + 1
    assert await stage.overlapping() == 0
    assert not once or len(runs) == JOBS + 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("pair", pairs(KINDS), ids="-beside-".join)
async def test_a_broken_network_loses_nothing(stage: Stage, pair: tuple[str, str], fault: str) -> None:
    """See "Broken connections" in docs/compatibility.md."""
    needs_help = fault in BREAKS and pair[0] != "ours"
    async with open_proxy(stage.url) as proxy:
        afflicted = await (stage.mortal if needs_help else stage.peer)(pair[0], url=proxy.url)
        other = await stage.peer(pair[1])
        await stage.close_gate()
        held = await other.add({"held": True, "queue": "q"}, queue_name="q")
        await afflicted.ask("work", concurrency=2)
        await stage.wait_started(1)
        name = await stage.holder_of(held)
        await add_jobs(other)
        await other.ask("work", concurrency=2)

        await FAULTS[fault](proxy)
        await stage.open_gate()
        if needs_help:
            afflicted.program.kill()
            await other.ask("unlock", worker_ids=[name])
        await check_all_ran(stage, once=not needs_help)
        await afflicted.close()


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-beside-".join)
async def test_a_slow_network_only_delays(stage: Stage, pair: tuple[str, str]) -> None:
    async with open_proxy(stage.url) as proxy:
        proxy.round_trip = 0.02
        slow, other = await stage.peer(pair[0], url=proxy.url), await stage.peer(pair[1])
        await other.add({"queue": "q"}, queue_name="q")
        await slow.ask("work", concurrency=2)
        await other.ask("work", concurrency=2)
        await add_jobs(slow)
        await check_all_ran(stage, once=True)
        await slow.close()
