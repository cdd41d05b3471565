"""When a worker compares what it holds with what the database says is locked by it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.intake import ME, Reconciled, ScriptedClaimer, unobserved
from trio_graphile import ConnectionLost, Job, TaskRegistry, WorkerOptions
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.ledger import Ledger


@pytest.mark.parametrize(
    ("trouble", "times"),
    [
        ("none", 0),
        ("a claim fails", 1),
        ("the session is opened anew", 1),
    ],
)
async def test_the_whole_table_is_read_only_if_there_is_a_reason(
    autojump_clock: trio.testing.MockClock, trouble: str, times: int
) -> None:
    reconciled = 0
    failures = [ConnectionLost("gone")] if trouble == "a claim fails" else []

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()
        return []

    async def reconcile() -> None:
        nonlocal reconciled
        await trio.lowlevel.checkpoint()
        reconciled += 1

    session = Reconciled(reconcile)
    claims = Claims(
        claimer=ScriptedClaimer(claim),
        session=session,  # type: ignore[arg-type]  # it stands for one
        ledger=Ledger(),
        tasks=TaskRegistry(),
        options=WorkerOptions(),
        worker_id=ME,
        emitter=unobserved(),
    )
    if trouble == "the session is opened anew":
        session.times_opened = 2
    for _ in range(5):
        await claims.claim(10)
    assert reconciled == times
