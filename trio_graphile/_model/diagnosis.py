"""Says what is wrong with a queue and its server, given facts about them. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import attrs

from trio_graphile._model.counted import counted
from trio_graphile._model.finding import Finding as Finding  # noqa: PLC0414  # so that it is found here, too
from trio_graphile._model.finding import Level as Level  # noqa: PLC0414  # as above
from trio_graphile._model.pooling import PoolingFacts, diagnose_listening, diagnose_pooling

_LONG_TRANSACTION_SECONDS = 300.0
_STUCK_SECONDS = 300.0
_NOTICED_SKEW_SECONDS = 1.0
_HARMFUL_SKEW_SECONDS = 30.0
_MANY_DEAD_ROWS = 50_000
_FULL_SHARE = 0.8  # of the sessions that the server allows
_OLDEST_SUPPORTED_SERVER = 140_000
"""The oldest major version that its makers still support."""


@attrs.frozen(kw_only=True)
class ServerFacts:
    """Facts about the server."""

    version: int
    """The version as PostgreSQL counts: 180006 is 18.6."""
    clock_skew: float
    """How many seconds the clock of the server is ahead of ours."""
    clock_error: float
    """The precision of `clock_skew`, in seconds."""
    pooling: PoolingFacts
    is_standby: bool = False
    is_without_encoding: bool = False
    """Whether the database accepts any bytes as text (SQL_ASCII)."""
    is_fsync_off: bool = False
    is_autovacuum_off: bool = False
    is_read_only: bool = False
    """Whether transactions are read-only by default, for this role or in this database."""
    sees_sessions: bool = True
    """Whether our role sees what the sessions of others do."""
    sessions: int = 0
    max_sessions: int = 100


@attrs.frozen(kw_only=True)
class Holdback:
    """A transaction or a slot that keeps vacuum from removing dead rows."""

    kind: str
    """`transaction`, `prepared transaction` or `replication slot`."""
    name: str
    """The process id of the transaction, or the name."""
    user: str | None = None
    application: str | None = None
    seconds: float | None = None
    """How long it has done so; None if unknown."""


@attrs.frozen(kw_only=True)
class Lock:
    """The jobs and queues that one holder has locked."""

    worker_id: str
    jobs: int
    queues: int
    waiting: int
    """How many due jobs wait for these queues."""
    seconds: float
    """The age of the newest of the locks."""
    is_alive: bool | None = None
    """Whether the holder sends heartbeats; None if it is not registered."""


@attrs.frozen(kw_only=True)
class Neglected:
    """A task with due jobs that no live worker of ours has."""

    identifier: str
    jobs: int
    since: datetime


@attrs.frozen(kw_only=True)
class QueueFacts:
    """Facts about the queue."""

    live_rows: int = 0
    dead_rows: int = 0
    hidden: Sequence[str] = ()
    """The tables of which row level security may hide rows from our role."""
    locks: Sequence[Lock] = ()
    neglected: Sequence[Neglected] = ()
    live_workers: int = 0
    lockless: Mapping[str, str] = attrs.field(factory=dict)
    """The live workers for which no lock stands, and why."""
    failed_jobs: int = 0


def diagnose_server(facts: ServerFacts, holdbacks: Sequence[Holdback]) -> Iterator[Finding]:
    """Yield what the facts say about the server."""
    yield _version(facts)
    yield _role(facts)
    yield diagnose_pooling(facts.pooling)
    if not facts.is_standby:  # where nobody can listen
        yield diagnose_listening(facts.pooling)
    yield _clock(facts)
    yield _sessions(facts)
    yield from _settings(facts)
    yield from _holdbacks(holdbacks, sees_sessions=facts.sees_sessions)


def _version(facts: ServerFacts) -> Finding:
    name = f"PostgreSQL {facts.version // 10_000}.{facts.version % 10_000}"
    if facts.version < _OLDEST_SUPPORTED_SERVER:
        return Finding("version", Level.WARNING, f"{name} gets no corrections any more", "upgrade the server")
    return Finding("version", Level.OK, name)


def _role(facts: ServerFacts) -> Finding:
    if facts.is_standby:
        return Finding(
            "role",
            Level.PROBLEM,
            "the server is a standby, where nothing can be written",
            "connect to the primary; with several hosts in the URL, add target_session_attrs=read-write",
        )
    if facts.is_read_only:
        return Finding(
            "role",
            Level.PROBLEM,
            "transactions are read-only by default, so nothing can be written",
            "alter role ... reset default_transaction_read_only; or it is set by the database, or the URL",
        )
    return Finding("role", Level.OK, "the server takes writes")


def _clock(facts: ServerFacts) -> Finding:
    skew = abs(facts.clock_skew)
    way = "ahead of" if facts.clock_skew > 0 else "behind"
    text = f"the server's clock is {skew:.1f} s {way} this machine's (measured to {facts.clock_error:.2f} s)"
    if skew - facts.clock_error < _NOTICED_SKEW_SECONDS:
        return Finding("clock", Level.OK, text)
    level = Level.PROBLEM if skew - facts.clock_error > _HARMFUL_SKEW_SECONDS else Level.WARNING
    return Finding(
        "clock",
        level,
        text,
        "the server's clock decides what is due: have both machines synchronised (chrony, systemd-timesyncd)",
    )


def _sessions(facts: ServerFacts) -> Finding:
    text = f"{facts.sessions} of {facts.max_sessions} sessions are open"
    if facts.sessions < facts.max_sessions * _FULL_SHARE:
        return Finding("sessions", Level.OK, text)
    return Finding(
        "sessions",
        Level.WARNING,
        text,
        "raise max_connections, or lower --pool-size: a worker opens up to that many and three more",
    )


def _settings(facts: ServerFacts) -> Iterator[Finding]:
    if facts.is_without_encoding:
        yield Finding(
            "encoding",
            Level.WARNING,
            "the database is in SQL_ASCII: a program that writes other bytes than UTF-8 adds jobs that "
            "nobody can read, and they fail for good",
            "move the queue to a database in UTF8",
        )
    if facts.is_autovacuum_off:
        yield Finding(
            "autovacuum",
            Level.PROBLEM,
            "autovacuum is off: each job leaves a dead row for ever",
            "turn it on",
        )
    if facts.is_fsync_off:
        yield Finding(
            "fsync", Level.WARNING, "fsync is off: a power failure can lose the whole database", "turn it on"
        )


def _holdbacks(holdbacks: Sequence[Holdback], *, sees_sessions: bool) -> Iterator[Finding]:
    held = [held for held in holdbacks if held.seconds is None or held.seconds > _LONG_TRANSACTION_SECONDS]
    if not sees_sessions:
        yield Finding(
            "vacuum",
            Level.NOTE,
            "whether transactions of other roles hold it back cannot be seen by this role",
            "grant pg_read_all_stats to the role",
        )
    elif not held:
        yield Finding("vacuum", Level.OK, "nothing old holds it back")
    for one in held:
        since = "" if one.seconds is None else f" for {duration(one.seconds)}"
        whose = "".join(f" of {name}" for name in (one.user, one.application) if name)
        yield Finding(
            "vacuum",
            Level.WARNING,
            f"{one.kind} {one.name}{whose} holds it back{since}: claims slow down as dead rows pile up",
            _ENDINGS[one.kind].format(name=one.name),
        )


_ENDINGS = {
    "transaction": "end it: select pg_terminate_backend({name}); set idle_in_transaction_session_timeout",
    "prepared transaction": "end it: rollback prepared '{name}'",
    "replication slot": "if nobody needs it: select pg_drop_replication_slot('{name}')",
}


def diagnose_queue(facts: QueueFacts) -> Iterator[Finding]:
    """Yield what the facts say about the queue."""
    if facts.hidden:
        yield Finding("rows", Level.PROBLEM, hiding(facts.hidden), POLICIES)
    yield _bloat(facts)
    yield _workers(facts)
    if facts.lockless:
        yield _presence(facts.lockless)
    yield from _locks(facts.locks)
    for task in facts.neglected:
        yield Finding(
            "tasks",
            Level.WARNING,
            f"{counted(task.jobs, 'job')} of task {task.identifier} due since "
            f"{task.since:%Y-%m-%d %H:%M:%S} UTC, and no live worker of ours has it",
            "start a worker with that task; if it is another program's (Node's, say), all is well",
        )
    if facts.failed_jobs:
        yield Finding(
            "failures",
            Level.NOTE,
            f"{counted(facts.failed_jobs, 'job')} without an attempt left",
            "trio-graphile list --state failed shows them; reschedule IDS --attempts 0 --now tries again; "
            "cleanup delete-permanently-failed-jobs forgets them",
        )


POLICIES = "`trio-graphile roles` prints the SQL for roles with policies; or connect as the owner"


def hiding(tables: Sequence[str]) -> str:
    """Say that row level security may hide rows of some tables."""
    return f"row level security may hide rows of {', '.join(tables)} from this role"


def _bloat(facts: QueueFacts) -> Finding:
    text = f"the jobs table has {counted(facts.live_rows, 'row')} and {counted(facts.dead_rows, 'dead one')}"
    if facts.dead_rows < _MANY_DEAD_ROWS or facts.dead_rows < facts.live_rows:
        return Finding("bloat", Level.OK, text)
    return Finding(
        "bloat",
        Level.WARNING,
        text,
        "vacuum it now (vacuum graphile_worker._private_jobs, with your schema's name), and have autovacuum "
        "come more often: alter table ... set (autovacuum_vacuum_scale_factor = 0.01)",
    )


def _workers(facts: QueueFacts) -> Finding:
    if facts.live_workers:
        return Finding("workers", Level.OK, counted(facts.live_workers, "live worker"))
    text = "no live worker is registered; those of Node never are, nor ours without recovery"
    return Finding("workers", Level.NOTE, text, "trio-graphile run MODULE:TASKS")


def _presence(lockless: Mapping[str, str]) -> Finding:
    reasons = "; ".join(sorted(set(lockless.values())))
    who = f"{counted(len(lockless), 'live worker')} ({', '.join(sorted(lockless))})"
    text = f"no lock stands for {who}: {reasons}"
    advice = "if one of them dies, its jobs run again when its lease has ended: see docs/shutdown.md"
    return Finding("presence", Level.NOTE, text, advice)


def _locks(locks: Sequence[Lock]) -> Iterator[Finding]:
    stuck = [lock for lock in locks if lock.is_alive is False or lock.seconds > _STUCK_SECONDS]
    if not stuck:
        yield Finding("locks", Level.OK, "none is old, or of a dead worker")
    for lock in stuck:
        behind = f", with {counted(lock.waiting, 'job')} waiting behind the queues" if lock.waiting else ""
        held = f"{counted(lock.jobs, 'job')} and {counted(lock.queues, 'queue')}"
        who = {True: "alive", False: "dead", None: "not registered"}[lock.is_alive]
        yield Finding(
            "locks",
            Level.PROBLEM if lock.is_alive is False else Level.WARNING,
            f"{lock.worker_id} ({who}) has {held} locked, the latest for {duration(lock.seconds)}{behind}",
            "trio-graphile sweep-stale-workers gives back what is of dead workers; "
            f"if you know that it is gone: trio-graphile force-unlock {lock.worker_id}",
        )


def duration(seconds: float) -> str:
    """Return a time span in words."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
