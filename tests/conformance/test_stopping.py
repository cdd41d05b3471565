"""One kind of worker stops while another works on: nothing is lost, and nothing is run twice."""

from __future__ import annotations

import pytest
import trio

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Row, Stage, pairs

pytestmark = pytest.mark.interop


async def hold_a_job(stage: Stage, holder: Peer, **options: object) -> int:
    await stage.close_gate()
    job_id = await holder.add({"held": True}, queue_name="q")
    await holder.ask("work", **options)
    await stage.wait_started(1)
    return job_id


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-beside-".join)
async def test_a_stop_lets_running_jobs_finish_and_leaves_the_others(
    stage: Stage, pair: tuple[str, str]
) -> None:
    stopping, staying = [await stage.peer(kind) for kind in pair]
    held = await hold_a_job(stage, stopping, concurrency=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stopping.ask, "stop")
        await staying.ask("work", concurrency=3)
        behind = await staying.add({}, queue_name="q")
        free = [await staying.add({}) for _ in range(3)]
        await stage.wait_finished(free[-1])
        assert (await stage.rows())[behind] == Row()
        await stage.open_gate()
    await stage.wait_settled()
    runs = await stage.runs()
    assert all(run.finished for run in runs)
    assert sorted(run.job_id for run in runs) == [held, behind, *free]
    assert {run.job_id for run in runs if run.side == stopping.kind} >= {held}


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-beside-".join)
async def test_jobs_taken_ahead_go_back_with_their_attempts(stage: Stage, pair: tuple[str, str]) -> None:
    stopping, staying = [await stage.peer(kind) for kind in pair]
    await stage.close_gate()
    held = await staying.add({"held": True})
    ahead = [await staying.add({}) for _ in range(4)]
    await stopping.ask("work", batch=10)
    await stage.wait_started(1)
    await stage.wait_until("select count(*) = 5 from graphile_worker.jobs where locked_at is not null")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stopping.ask, "stop")
        await stage.wait_until("select count(*) = 1 from graphile_worker.jobs where locked_at is not null")
        assert [(await stage.rows())[job_id] for job_id in ahead] == [Row()] * 4
        await staying.ask("work")
        await stage.wait_until("select count(*) = 1 from graphile_worker.jobs")
        await stage.open_gate()
    await stage.wait_settled()
    assert {run.job_id: run.side for run in await stage.runs()} == {
        held: stopping.kind,
        **dict.fromkeys(ahead, staying.kind),
    }


@pytest.mark.parametrize(
    "pair", [pair for pair in pairs(KINDS) if pair[0] in {"ours", "rust"}], ids="-beside-".join
)
async def test_what_a_stop_interrupts_goes_back_with_its_attempt(stage: Stage, pair: tuple[str, str]) -> None:
    """See "Interrupted jobs" in docs/compatibility.md."""
    stopping, staying = [await stage.peer(kind) for kind in pair]
    job_id = await hold_a_job(stage, stopping, grace=0.05)
    await stopping.ask("stop")
    by_rust = stopping.kind == "rust"
    assert await stage.rows() == {job_id: Row(error=by_rust, payload={"held": True})}
    assert await stage.locked_queues() == []
    waits: bool = await stage.database.fetch_value("select run_at > now() from graphile_worker.jobs")
    assert waits == by_rust
    await stage.open_gate()
    if waits:
        await staying.ask("reschedule", ids=[job_id], change={"run_at": "2000-01-01T00:00:00Z"})
    await staying.ask("work")
    await stage.wait_settled()
    assert [(run.side, run.finished) for run in await stage.runs()][-1] == (staying.kind, True)
