"""Each kind of worker takes back the jobs of every other kind's dead workers, and leaves live ones alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Row, Stage, pairs

pytestmark = pytest.mark.interop

HELD = {"held": True}


SWEEPING = {"threshold": 2.0, "orphan_threshold": 3600.0, "heartbeat": 0.2, "sweep": 0.2}
RECOVERING: dict[str, dict[str, Any]] = {
    "ours": SWEEPING,
    "rust": SWEEPING,
    "node18": {"reset": True},
    "node17": {"reset": True},
}
"""How each kind is told to look for dead workers at once."""
GIVES_BACK = {"ours", "rust"}
"""Who gives a dead worker's attempt back, and says so in the last error: those that sweep."""


async def hold_a_job(stage: Stage, holder: Peer, **options: Any) -> int:
    await stage.close_gate()
    job_id = await holder.add(HELD, queue_name="q", job_key="k")
    await holder.ask("work", **options)
    await stage.wait_started(1)
    return job_id


async def let_time_pass(stage: Stage, recoverer: Peer) -> None:
    """Make all locks and heartbeats too old for whoever looks: two hours for sweeps, over four for resets."""
    hours = 2 if recoverer.kind in GIVES_BACK else 5
    await stage.database.execute(f"""
        update graphile_worker._private_jobs
        set locked_at = locked_at - interval '{hours} hours';
        update graphile_worker._private_job_queues
        set locked_at = locked_at - interval '{hours} hours';
        update graphile_worker._private_workers
        set last_heartbeat_at = last_heartbeat_at - interval '{hours} hours'
    """)


async def recover(stage: Stage, recoverer: Peer, dead: str) -> None:
    """Have a worker take back what a dead one holds, and make it due."""
    await recoverer.ask("work", **RECOVERING[recoverer.kind])
    await stage.wait_until(
        "select not exists (select from graphile_worker.jobs where locked_by = $1::text)", dead
    )
    await stage.database.execute(
        "update graphile_worker._private_jobs set run_at = now() where locked_at is null"
    )


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-from-".join)
async def test_a_dead_worker_s_job_runs_again(stage: Stage, pair: tuple[str, str]) -> None:
    """See "Attempts of dead workers" in docs/compatibility.md."""
    recoverer, dying = await stage.peer(pair[0]), await stage.mortal(pair[1])
    job_id = await hold_a_job(stage, dying, heartbeat=0.2)
    dead = await stage.holder_of(job_id)
    await stage.kill(dying)
    assert await stage.rows() == {job_id: Row(attempts=1, key="k", locked=True, payload=HELD)}
    assert await stage.locked_queues() == ["q"]
    await let_time_pass(stage, recoverer)

    await recover(stage, recoverer, dead)
    await stage.wait_started(2)
    given_back = recoverer.kind in GIVES_BACK
    again = Row(attempts=1 if given_back else 2, key="k", error=given_back, locked=True, payload=HELD)
    assert await stage.rows() == {job_id: again}
    await stage.open_gate()
    await stage.wait_settled()
    assert [(run.side, run.finished) for run in await stage.runs()] == [
        (dying.kind, False),
        (recoverer.kind, True),
    ]


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-from-".join)
async def test_what_was_replaced_while_a_dead_worker_ran_it_runs_no_more(
    stage: Stage, pair: tuple[str, str]
) -> None:
    recoverer, dying = await stage.peer(pair[0]), await stage.mortal(pair[1])
    job_id = await hold_a_job(stage, dying, heartbeat=0.2)
    dead = await stage.holder_of(job_id)
    replacing = await recoverer.add({}, queue_name="q", job_key="k")
    await stage.kill(dying)
    await let_time_pass(stage, recoverer)

    await recover(stage, recoverer, dead)
    await stage.open_gate()
    await stage.wait_settled(1)
    [(left_id, left)] = (await stage.rows()).items()
    assert (left_id, left.attempts, left.key) == (job_id, left.max_attempts, None)
    assert [run.job_id for run in await stage.runs()] == [job_id, replacing]


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-beside-".join)
async def test_a_live_worker_keeps_its_job(stage: Stage, pair: tuple[str, str]) -> None:
    """For longer than a dead one would. Ours renews its locks, however old they are."""
    recoverer, living = [await stage.peer(kind) for kind in pair]
    job_id = await hold_a_job(stage, living, threshold=2.0, heartbeat=0.2)
    if living.kind == "ours":
        await let_time_pass(stage, recoverer)
        await stage.wait_until("select locked_at > now() - interval '1 minute' from graphile_worker.jobs")
    await recoverer.ask("work", **RECOVERING[recoverer.kind])
    await stage.wait_until("select started_at < now() - interval '3 seconds' from runs")
    assert await stage.rows() == {
        job_id: Row(attempts=1, key="k", locked=True, payload=HELD),
    }
    assert await stage.locked_queues() == ["q"]
    await stage.open_gate()
    await stage.wait_settled()
    assert [(run.side, run.finished) for run in await stage.runs()] == [(living.kind, True)]
