"""When a worker compares what it holds with what the database says is locked by it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.intake import ME, Reconciled, ScriptedClaimer, unobserved
from trio_graphile import ConnectionLost, Job, TaskRegistry, WorkerOptions
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.ledger import Ledger

OPTIONS = WorkerOptions()
LEASE = OPTIONS.lease.length


@pytest.mark.parametrize(
    ("trouble", "after_leases"),
    [
        ("none", []),
        ("a claim fails", [0, 1]),
        ("the session is opened anew", [0, 1]),
        ("a pooler may hide that", [1, 2, 3]),
    ],
)
async def test_the_whole_table_is_read_only_if_there_is_a_reason(
    autojump_clock: trio.testing.MockClock, trouble: str, after_leases: list[int]
) -> None:
    """And once more after a while: what nobody waits for any more may be executed late."""
    began, reconciled = trio.current_time(), list[float]()
    failures = [ConnectionLost("gone")] if trouble == "a claim fails" else []

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()
        return []

    async def reconcile() -> None:
        await trio.lowlevel.checkpoint()
        reconciled.append(trio.current_time() - began)

    session = Reconciled(reconcile, may_hide_losses=trouble == "a pooler may hide that")
    claims = Claims(
        claimer=ScriptedClaimer(claim),
        session=session,  # type: ignore[arg-type]  # it stands for one
        ledger=Ledger(),
        tasks=TaskRegistry(),
        options=OPTIONS,
        worker_id=ME,
        emitter=unobserved(),
    )
    if trouble == "the session is opened anew":
        session.times_opened = 2
    for _ in range(35):
        await claims.claim(10)
        await trio.sleep(LEASE / 10)
    assert [round(at / LEASE) for at in reconciled] == after_leases
