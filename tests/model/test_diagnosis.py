"""What is said of what was seen."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from trio_graphile._model.diagnosis import (
    Finding,
    Holdback,
    Level,
    Lock,
    Neglected,
    QueueFacts,
    ServerFacts,
    diagnose_queue,
    diagnose_server,
    duration,
)
from trio_graphile._model.pooling import PoolingFacts

FINE = ServerFacts(version=180_006, clock_skew=0.01, clock_error=0.02, pooling=PoolingFacts())


TRANSACTIONS = PoolingFacts(mode="transaction")
SESSIONS = PoolingFacts(mode="session")
IGNORED = PoolingFacts(ignored=("jit", "statement_timeout"))
POLLING = PoolingFacts(mode="transaction", is_expected=True, may_listen=False, hears=False)


def not_ok(findings: Any) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.OK]


def test_nothing_is_wrong_with_a_server_that_is_fine() -> None:
    assert not_ok(diagnose_server(FINE, [])) == []


@pytest.mark.parametrize(
    ("changes", "level", "check", "text"),
    [
        ({"version": 120_022}, Level.WARNING, "version", "PostgreSQL 12.22 gets no corrections any more"),
        (
            {"pooling": PoolingFacts(hears=False)},
            Level.PROBLEM,
            "notifications",
            "jobs would be found by polling alone",
        ),
        ({"pooling": TRANSACTIONS}, Level.WARNING, "pooling", "a pooler in transaction mode"),
        ({"pooling": SESSIONS}, Level.PROBLEM, "pooling", "a pooler in session mode"),
        (
            {"pooling": IGNORED},
            Level.WARNING,
            "pooling",
            "ignores settings of our sessions: jit, st",
        ),
        ({"pooling": POLLING}, Level.NOTE, "notifications", "they find jobs by polling"),
        ({"clock_skew": 2.0}, Level.WARNING, "clock", "2.0 s ahead of this machine's"),
        ({"clock_skew": -60.0}, Level.PROBLEM, "clock", "60.0 s behind this machine's"),
        ({"sessions": 95}, Level.WARNING, "sessions", "95 of 100 sessions are open"),
        ({"is_standby": True, "pooling": PoolingFacts(hears=False)}, Level.PROBLEM, "role", "a standby"),
        ({"is_read_only": True}, Level.PROBLEM, "role", "read-only by default"),
        ({"sees_sessions": False}, Level.NOTE, "vacuum", "cannot be seen by this role"),
        ({"is_fsync_off": True}, Level.WARNING, "fsync", "can lose the whole database"),
        ({"is_autovacuum_off": True}, Level.PROBLEM, "autovacuum", "a dead row for ever"),
    ],
)
def test_each_thing_wrong_with_a_server_is_named_with_advice(
    changes: dict[str, Any], level: Level, check: str, text: str
) -> None:
    [finding] = not_ok(diagnose_server(attrs.evolve(FINE, **changes), []))
    assert (finding.level, finding.check) == (level, check)
    assert text in finding.text
    assert finding.advice


def test_a_clock_that_cannot_be_measured_well_is_not_blamed() -> None:
    assert not_ok(diagnose_server(attrs.evolve(FINE, clock_skew=3.0, clock_error=2.5), [])) == []


def test_what_holds_back_vacuum_is_named_with_how_to_end_it() -> None:
    long, prepared, slot = not_ok(
        diagnose_server(
            FINE,
            [
                Holdback(kind="transaction", name="7", user="ada", application="psql", seconds=4000.0),
                Holdback(kind="transaction", name="8", seconds=10.0),
                Holdback(kind="prepared transaction", name="x", seconds=400.0),
                Holdback(kind="replication slot", name="old"),
            ],
        )
    )
    assert long.text.startswith("transaction 7 of ada of psql holds it back for 67 min")
    assert "pg_terminate_backend(7)" in str(long.advice)
    assert prepared.advice == "end it: rollback prepared 'x'"
    assert "pg_drop_replication_slot('old')" in str(slot.advice)


def test_an_empty_queue_with_a_worker_is_fine() -> None:
    assert not_ok(diagnose_queue(QueueFacts(live_workers=1))) == []
    [finding] = not_ok(diagnose_queue(QueueFacts()))
    assert (finding.level, finding.check) == (Level.NOTE, "workers")


def test_bloat_is_dead_rows_that_outnumber_the_others() -> None:
    assert not_ok(diagnose_queue(QueueFacts(live_workers=1, live_rows=100_000, dead_rows=60_000))) == []
    [finding] = not_ok(diagnose_queue(QueueFacts(live_workers=1, live_rows=10, dead_rows=60_000)))
    assert finding.check == "bloat"


def test_locks_of_the_dead_are_a_problem_and_old_ones_a_warning() -> None:
    def lock(**changes: Any) -> Lock:
        return attrs.evolve(Lock(worker_id="w", jobs=1, queues=0, waiting=0, seconds=10.0), **changes)

    locks = [lock(), lock(is_alive=True), lock(is_alive=False), lock(seconds=4000.0)]
    dead, old = not_ok(diagnose_queue(QueueFacts(live_workers=1, locks=locks)))
    assert (dead.level, old.level) == (Level.PROBLEM, Level.WARNING)
    assert "w (dead) has 1 job" in dead.text
    assert "w (not registered) has 1 job and 0 queues locked, the latest for 67 min" in old.text


def test_rows_that_are_hidden_and_tasks_that_nobody_has_are_found() -> None:
    task = Neglected(identifier="t", jobs=3, since=datetime(2020, 1, 1, tzinfo=UTC))
    rows, tasks = not_ok(
        diagnose_queue(QueueFacts(live_workers=1, hidden=["_private_jobs"], neglected=[task]))
    )
    assert (rows.level, rows.check) == (Level.PROBLEM, "rows")
    assert tasks.text.startswith("3 jobs of task t due since 2020-01-01 00:00:00 UTC")


def test_what_there_is_one_of_is_one() -> None:
    task = Neglected(identifier="t", jobs=1, since=datetime(2020, 1, 1, tzinfo=UTC))
    facts = QueueFacts(
        live_workers=1, live_rows=1, dead_rows=1, lockless={"w": "why"}, neglected=[task], failed_jobs=1
    )
    texts = " | ".join(finding.text for finding in diagnose_queue(facts))
    for each in ("has 1 row and 1 dead one", "1 live worker |", "for 1 live worker (w)", "1 job of task t"):
        assert each in texts
    assert "1 job without an attempt left" in texts


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (7300, "2 h"), (200_000, "2 d")])
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
