"""Named queues are serial across all kinds of workers."""

from __future__ import annotations

import collections
import itertools

import pytest
import trio

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Stage, pairs

pytestmark = pytest.mark.interop

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


RUNS_SEEN = """
    insert into runs (job_id, side, worker_id, payload, started_at, finished_at)
    select seen.id, 'ours', 'a', json_build_object('queue', seen.queue),
      to_timestamp(seen.started), to_timestamp(seen.finished)
    from unnest($1::text[], $2::float8[], $3::float8[]) with ordinality
      as seen(queue, started, finished, id)
"""


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("q", 0, 1), ("q", 1, 2), ("r", 0, 9), (None, 0, 9), (None, 1, 2)], 0),
        ([("q", 0, 9), ("q", 1, 2), ("q", 3, 4)], 2),
        ([("q", 0, None), ("q", 1, 2)], 0),  # its worker was killed
        ([("q", 3, 4), ("q", 0, 5)], 1),
    ],
)
async def test_runs_of_a_queue_that_overlap_are_seen(
    stage: Stage, runs: list[tuple[str | None, float, float | None]], expected: int
) -> None:
    await stage.database.execute(RUNS_SEEN, *map(list, zip(*runs, strict=True)))
    assert await stage.overlapping() == expected


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
