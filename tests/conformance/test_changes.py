"""What one kind of worker is told to do with the jobs of another, from outside."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Row, Stage, pairs

pytestmark = pytest.mark.interop

DEAD = Row(attempts=1, max_attempts=1, error=True, payload={"error": "no luck"})
RUNNING = Row(attempts=1, locked=True, payload={"held": True})


@attrs.frozen(kw_only=True)
class Change:
    """What is asked, and the row of a job afterwards, by how it stood before; None if it is gone."""

    ask: str
    details: dict[str, Any] = attrs.field(factory=dict)
    waiting: Row | None = None
    dead: Row | None = None
    running: Row = RUNNING


CHANGES = (
    Change(ask="complete"),
    Change(
        ask="fail",
        details={"reason": "enough"},
        waiting=Row(attempts=25, error=True),
        dead=DEAD,
    ),
    Change(
        ask="reschedule",
        details={"change": {"attempts": 2, "max_attempts": 7, "run_at": "2999-01-01T00:00:00Z"}},
        waiting=Row(attempts=2, max_attempts=7),
        dead=attrs.evolve(DEAD, attempts=2, max_attempts=7),
    ),
    Change(
        ask="reschedule",
        details={"change": {"priority": 3}},
        waiting=Row(),
        dead=DEAD,
    ),
)


def name_of(change: Change) -> str:
    return " ".join([change.ask, *change.details.get("change", {})])


@pytest.mark.parametrize("change", CHANGES, ids=name_of)
@pytest.mark.parametrize("pair", pairs(KINDS), ids="-of-".join)
async def test_jobs_are_changed_unless_they_run(stage: Stage, pair: tuple[str, str], change: Change) -> None:
    actor, holder = [await stage.peer(kind) for kind in pair]
    await stage.close_gate()
    dead = await holder.add(DEAD.payload, max_attempts=1)
    running = await holder.add(RUNNING.payload, queue_name="q")
    await holder.ask("work")
    await stage.wait_started(2)
    await stage.wait_until("select locked_at is null from graphile_worker.jobs where id = $1::bigint", dead)
    waiting = await holder.add({})

    changed = await actor.ask(change.ask, ids=[waiting, dead, running, 999], **change.details)
    assert sorted(changed) == sorted([waiting, dead])
    expected = {dead: change.dead, running: change.running, waiting: change.waiting}
    assert await stage.rows() == {job_id: row for job_id, row in expected.items() if row is not None}

    await stage.open_gate()
    await stage.wait_finished(running)
    await stage.wait_until("select count(*) = 0 from graphile_worker.jobs where locked_at is not null")
    assert running not in await stage.rows()


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-of-".join)
async def test_zero_is_a_number_but_to_node(stage: Stage, pair: tuple[str, str]) -> None:
    """See "Zero" in docs/compatibility.md."""
    actor, holder = [await stage.peer(kind) for kind in pair]
    job_id = await holder.add({})
    await actor.ask("reschedule", ids=[job_id], change={"attempts": 2})
    await actor.ask("reschedule", ids=[job_id], change={"attempts": 0})
    assert await stage.rows() == {job_id: Row(attempts=2 if actor.kind.startswith("node") else 0)}


async def hold_a_job(stage: Stage, holder: Peer) -> int:
    await stage.close_gate()
    job_id = await holder.add({"held": True}, queue_name="q")
    await holder.ask("work")
    await stage.wait_started(1)
    return job_id


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-of-".join)
async def test_a_forced_unlock_lets_another_run_the_job(stage: Stage, pair: tuple[str, str]) -> None:
    """And nothing stays locked. See "Taken from a live worker" in docs/compatibility.md."""
    actor, holder = [await stage.peer(kind) for kind in pair]
    job_id = await hold_a_job(stage, holder)
    await actor.ask("unlock", worker_ids=["nobody", await stage.holder_of(job_id)])
    await actor.ask("work")
    await stage.wait_started(2)
    assert [run.side for run in await stage.runs()] == [holder.kind, actor.kind]
    assert await stage.rows() == {job_id: attrs.evolve(RUNNING, attempts=2)}
    await stage.open_gate()
    await stage.wait_settled(patience=5.0)


@pytest.mark.parametrize("holder", [kind for kind in KINDS if kind != "ours"])
async def test_only_workers_of_ours_hear_of_a_cancellation(stage: Stage, holder: str) -> None:
    """See "Cancelling" in docs/compatibility.md."""
    ours, other = await stage.peer("ours"), await stage.peer(holder)
    job_id = await hold_a_job(stage, other)
    waiting = await other.add({})
    await ours.ask("cancel", ids=[job_id, waiting])
    rows = await stage.rows()
    assert rows[waiting] == Row(attempts=25, error=True)
    assert rows[job_id].locked
    await stage.open_gate()
    await stage.wait_settled(1)
    assert [(run.job_id, run.finished) for run in await stage.runs()] == [(job_id, True)]
    assert job_id not in await stage.rows()
