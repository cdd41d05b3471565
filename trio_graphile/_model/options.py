"""Options: each field with its unit, its default and its limits, in one place."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.delays import is_delay
from trio_graphile._model.processors import count_processors
from trio_graphile._model.texts import check_text
from trio_graphile._model.validators import of_kind, of_kind_or_none, seconds, whole_number

DEFAULT_SCHEMA = "graphile_worker"

Flags: TypeAlias = (
    Sequence[str] | Callable[[], Sequence[str] | None] | Callable[[], Awaitable[Sequence[str] | None]]
)
"""Flags, or a function that the worker calls before each claim. If it returns None, there is no rule."""


def _abort_threshold(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 1
    ):
        raise OptionInvalid(attribute.name, f"a number of jobs of at least 1 is needed, not {value!r}")


def _default_schema() -> str:
    return os.environ.get("GRAPHILE_WORKER_SCHEMA") or DEFAULT_SCHEMA


def _flags(option: str, value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise OptionInvalid(option, f"a sequence of flags is needed, not the one string {value!r}")
    flags = tuple(value)
    for flag in flags:
        check_text(option, flag)
    return flags


def _resilient_flags(value: Iterable[str]) -> tuple[str, ...]:
    return _flags("resilient_flags", value)


def _forbidden_flags(value: Flags) -> Flags:
    return value if callable(value) else _flags("forbidden_flags", value)


def _accepted_flags(value: Flags | None) -> Flags | None:
    if value is None or callable(value):
        return value
    if not (flags := _flags("accepted_flags", value)):
        raise OptionInvalid("accepted_flags", "there must be one at least, or no job would be taken")
    return flags


def _allowed_flags(value: Flags | None) -> Flags | None:
    return value if value is None or callable(value) else _flags("allowed_flags", value)


def _multiplier(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 1000:
        raise OptionInvalid(attribute.name, f"a number from 1 to 1000 is needed, not {value!r}")


@attrs.frozen(kw_only=True)
class DatabaseOptions:
    """How to reach the database. Durations are seconds. Raises `OptionInvalid`."""

    schema: str = attrs.field(factory=_default_schema, validator=of_kind(str))
    """The schema of the queue. Defaults to `$GRAPHILE_WORKER_SCHEMA`, else `graphile_worker`."""
    pool_size: int = attrs.field(default=10, validator=whole_number(1, 10_000))
    """How many sessions clients and handlers share; the sessions of a worker itself are not counted."""
    connect_timeout: float = attrs.field(default=5.0, validator=seconds(600))
    """How long opening one session may take, for each of several hosts. A value in the URL takes
    precedence."""
    wait_for_server: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(seconds(86_400))
    )
    """How long to wait at the start for a server that is not up yet. Defaults to not waiting."""
    statement_timeout: float = attrs.field(default=60.0, validator=seconds(86_400))
    """How long one statement may take before the server gives it up; we give up the session a little
    later."""
    pooled: bool = attrs.field(default=False, validator=of_kind(bool))
    """Whether a pooler such as PgBouncer stands between us and the server. Then there are no named statements
    and no session settings, and workers do not listen without a direct URL."""
    prepared_statements: bool = attrs.field(default=True, validator=of_kind(bool))
    """Whether statements are prepared. False is what `pooled` does to statements and settings."""
    direct_url: str | None = attrs.field(
        default=None,
        repr=False,  # it may hold a password
        validator=of_kind_or_none(str),
    )
    """A second URL, which bypasses the pooler, for a worker's few sessions that must be direct."""


@attrs.frozen(kw_only=True)
class RefetchDelayOptions:
    """A delay after a claim that brought few jobs, so that a trickle of jobs is claimed in batches."""

    duration: float = attrs.field(validator=seconds(600))
    """About how long the delay is, in seconds: from half to one and a half times as long, at random."""
    threshold: int = attrs.field(default=0, validator=whole_number(0, 1_000_000))
    """Up to this number of jobs, a claim has brought few."""
    max_abort_threshold: float | None = attrs.field(default=None, validator=_abort_threshold)
    """How many announced jobs end the delay early, drawn at random up to this. Defaults to five times the
    size of the local queue; infinity means never."""


@attrs.frozen(kw_only=True)
class LocalQueueOptions:
    """Jobs that are claimed ahead of the slots that will run them. Durations are seconds."""

    size: int = attrs.field(default=0, validator=whole_number(0, 1_000_000))
    """How many jobs may be held beyond what idle slots can run at once; 0 claims only for idle slots."""
    ttl: float = attrs.field(default=300.0, validator=seconds(86_400))
    """How long a job may be held before it is given back to other workers."""
    refetch_delay: RefetchDelayOptions | None = attrs.field(
        default=None, validator=of_kind_or_none(RefetchDelayOptions)
    )


@attrs.frozen(kw_only=True)
class ProcessOptions:
    """The processes in which tasks of the lane `process` run. Durations are seconds."""

    count: int = attrs.field(factory=count_processors, validator=whole_number(1, 10_000))
    """How many processes may run at once. Defaults to the number of processors that this process may use."""
    jobs_per_process: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole_number(1, 1_000_000_000))
    )
    """After how many jobs a new process replaces this one, which ends its memory leaks. Defaults to never."""
    idle_timeout: float = attrs.field(default=600.0, validator=seconds(86_400))
    """How long a process without a job is kept."""
    prestart: bool = attrs.field(default=False, validator=attrs.validators.instance_of(bool))
    """Whether a worker starts all processes, and has them import their handlers, before it takes jobs. If
    not, each starts with the first job that needs it, which waits for the imports."""


@attrs.frozen(kw_only=True)
class ShutdownOptions:
    """How a worker ends. Both limits together bound a graceful stop, `flush_timeout` alone a cancellation."""

    grace_period: float = attrs.field(default=25.0, validator=seconds(86_400, zero=True))
    """How long running handlers may go on after a stop. Zero interrupts them at once."""
    flush_timeout: float = attrs.field(default=4.0, validator=seconds(600))
    """How long writing the last outcomes may take."""


def _tenth_of_length(lease: LeaseOptions) -> float:
    length = lease.length
    return length / 10 if is_delay(length) else length  # what is no length is refused as the length


@attrs.frozen(kw_only=True)
class LeaseOptions:
    """How a worker keeps its claims alive, and what it does if it cannot. Durations are seconds.

    Rust workers with recovery take jobs whose locks were not renewed for five minutes; other workers of ours
    take those not renewed for their `sweep_threshold`. `length` must be at most the shortest of these in the
    fleet.
    """

    length: float = attrs.field(default=300.0, validator=seconds(86_400))
    """How long after its last renewal other workers may take our jobs."""
    renew_interval: float = attrs.field(
        default=attrs.Factory(_tenth_of_length, takes_self=True), validator=seconds(3600)
    )
    """How often the worker renews its locks and heartbeat. Defaults to a tenth of the length."""
    margin: float = attrs.field(
        default=attrs.Factory(_tenth_of_length, takes_self=True), validator=seconds(3600)
    )
    """How long before the end of its lease a worker that cannot renew it interrupts its handlers. Defaults to
    a tenth of the length."""
    blocked_after: float = attrs.field(default=5.0, validator=seconds(3600))
    """How long a handler may block the event loop before the log names it."""

    def __attrs_post_init__(self) -> None:
        if self.renew_interval * 2 > self.length - self.margin:
            raise OptionInvalid(
                "renew_interval",
                f"{self.renew_interval} s leaves no second try within the {self.length} s of the lease less "
                f"its margin of {self.margin} s",
            )


@attrs.frozen(kw_only=True)
class SweepOptions:
    """Which workers count as dead, and when their jobs run again. Durations are seconds."""

    sweep_threshold: float = attrs.field(default=300.0, validator=seconds(86_400))
    """After how long without a sign of life a worker counts as dead."""
    foreign_threshold: float = attrs.field(default=300.0, validator=seconds(86_400))
    """The same for registered workers of another kind, those of Rust, if it is longer. Their heartbeat
    interval defaults to 30 seconds; this must be several times as long."""
    orphan_threshold: float = attrs.field(default=14_400.0, validator=seconds(604_800))
    """The age at which locks of workers that never register, above all those of Node, count as abandoned.
    Nothing renews these locks: if this is shorter than the longest job, such jobs run twice."""
    recovery_delay: float = attrs.field(default=30.0, validator=seconds(21_600, zero=True))
    """How long a job that was taken from a dead worker waits."""
    resilient_flags: tuple[str, ...] = attrs.field(
        default=("infrastructure_resilient",), converter=_resilient_flags
    )
    """Flags of jobs whose workers get more time before they count as dead."""
    resilient_multiplier: float = attrs.field(default=3.0, validator=_multiplier)
    """How many times as much time they get."""

    def __attrs_post_init__(self) -> None:
        if self.orphan_threshold < self.sweep_threshold:
            raise OptionInvalid(
                "orphan_threshold",
                f"{self.orphan_threshold} s is shorter than the sweep_threshold of {self.sweep_threshold} s",
            )


@attrs.frozen(kw_only=True)
class PresenceOptions:
    """How a dead worker is noticed within seconds: by a lock that its process held. Durations are seconds."""

    probe_interval: float = attrs.field(default=3.0, validator=seconds(60))
    """How often the worker asks the server for a sign of life, and whether other workers are gone."""
    probe_timeout: float = attrs.field(default=2.0, validator=seconds(60))
    """How long the answer may take before the worker opens another session."""
    fence_after: float = attrs.field(default=7.0, validator=seconds(600))
    """How long after its last sign of life a worker whose session is lost interrupts its handlers."""
    grace: float = attrs.field(default=9.0, validator=seconds(3600))
    """How long other workers leave the jobs of this worker alone once its lock is gone."""
    indirect: bool = attrs.field(default=False, validator=of_kind(bool))
    """Whether the lock counts even if a proxy, or a translation of addresses, is between worker and server.
    Then any silence of over `fence_after` interrupts the handlers; without it, the lease decides there."""

    @property
    def retry_interval(self) -> float:
        """How often the worker tries to open another session, in seconds."""
        return self.probe_interval / 3

    def __attrs_post_init__(self) -> None:
        least = self.probe_interval + self.probe_timeout + self.retry_interval
        if self.fence_after < least:
            why = f"{self.fence_after} s leaves no time for a second try, which needs {least:.15g} s"
            raise OptionInvalid("fence_after", why)
        if self.fence_after > self.grace * 0.8:
            raise OptionInvalid(
                "fence_after",
                f"{self.fence_after} s leaves under a fifth of the {self.grace} s of grace to stop handlers",
            )


@attrs.frozen(kw_only=True)
class RecoveryOptions(SweepOptions):
    """How a worker shows that it lives, and looks for dead workers. Durations are seconds."""

    sweep_interval: float = attrs.field(default=60.0, validator=seconds(3600))
    """About how often the worker looks for dead workers: up to a fifth more or less, at random. In a very
    large table, it looks less often for locks of workers that are not registered."""
    reset_interval: float = attrs.field(default=540.0, validator=seconds(7200))
    """About how often the worker releases locks older than four hours: up to a ninth more or less, at random.
    Workers without recovery do so, too. In a very large table, all look for such locks less often."""
    presence: PresenceOptions | None = attrs.field(
        factory=PresenceOptions, validator=of_kind_or_none(PresenceOptions)
    )
    """How the death of a worker's process is noticed within seconds. Without it, only the lease decides."""


@attrs.frozen(kw_only=True)
class CronOptions:
    """What happens to times of a crontab at which no worker was awake. Durations are seconds."""

    catch_up_window: float = attrs.field(default=3600.0, validator=seconds(31_536_000))
    """How late a worker that slept, or could not reach the database, may add a job: at least 60. A
    backfill period of the entry replaces this if it is longer, and alone decides about times at which no
    worker ran."""
    missed_limit: int = attrs.field(default=100, validator=whole_number(1, 100_000))
    """How many missed times of one entry get jobs at once: the latest ones. With 1, only the latest does."""

    def __attrs_post_init__(self) -> None:
        if self.catch_up_window < 60:
            raise OptionInvalid(
                "catch_up_window",
                f"{self.catch_up_window} s is less than 60: what is a little late would be left out",
            )


@attrs.frozen(kw_only=True)
class ObserverOptions:
    """How observers of events are called. Durations are seconds. Has no effect without observers."""

    timeout: float = attrs.field(default=5.0, validator=seconds(3600))
    """How long one observer may take for one event before it is cancelled. One that does not await cannot be
    cancelled, and blocks the event loop: then the log names it."""
    queue_size: int = attrs.field(default=10_000, validator=whole_number(1, 10_000_000))
    """How many events may wait for slow observers; further ones are dropped, and counted."""


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """How a worker runs. Durations are seconds. Raises `OptionInvalid`."""

    concurrency: int = attrs.field(factory=count_processors, validator=whole_number(1, 100_000))
    """How many jobs run at once: the number of slots. Defaults to the number of processors that this process
    may use."""
    poll_interval: float = attrs.field(default=2.0, validator=seconds(600))
    """How often the worker looks for due jobs when no notification wakes it."""
    notifications: bool = attrs.field(default=True, validator=of_kind(bool))
    """Whether the worker opens a session for LISTEN. If not, it finds jobs only by polling."""
    forbidden_flags: Flags = attrs.field(default=(), converter=_forbidden_flags)
    """Flags of jobs that this worker leaves to others. A function, async or not, is called before each claim,
    which makes rate limits possible."""
    accepted_flags: Flags | None = attrs.field(default=None, converter=_accepted_flags)
    """Flags of which a job needs at least one, so that jobs without flags are not taken. Flags, or a function
    as above; unset, or None, is no rule."""
    allowed_flags: Flags | None = attrs.field(default=None, converter=_allowed_flags)
    """Flags besides which a job may have no others; if there are none, only jobs without flags are taken.
    Flags, or a function as above; unset, or None, is no rule."""
    local_queue: LocalQueueOptions = attrs.field(
        factory=LocalQueueOptions, validator=of_kind(LocalQueueOptions)
    )
    complete_delay: float = attrs.field(default=0.0, validator=seconds(60, zero=True))
    """How long a completion waits to be recorded together with others. Under load they gather without it."""
    fail_delay: float = attrs.field(default=0.0, validator=seconds(60, zero=True))
    """How long a failure waits to be recorded together with others."""
    processes: ProcessOptions = attrs.field(factory=ProcessOptions, validator=of_kind(ProcessOptions))
    cron: CronOptions = attrs.field(factory=CronOptions, validator=of_kind(CronOptions))
    lease: LeaseOptions = attrs.field(factory=LeaseOptions, validator=of_kind(LeaseOptions))
    recovery: RecoveryOptions | None = attrs.field(
        factory=RecoveryOptions, validator=of_kind_or_none(RecoveryOptions)
    )
    """How the worker registers, and looks for dead workers. Without it the worker does neither; it still
    renews its locks, and releases locks older than four hours."""
    shutdown: ShutdownOptions = attrs.field(factory=ShutdownOptions, validator=of_kind(ShutdownOptions))
    observers: ObserverOptions = attrs.field(factory=ObserverOptions, validator=of_kind(ObserverOptions))

    def __attrs_post_init__(self) -> None:
        delay = self.local_queue.refetch_delay
        if delay is not None and delay.duration > self.poll_interval:
            raise OptionInvalid(
                "local_queue.refetch_delay.duration",
                f"{delay.duration} s is longer than the poll_interval of {self.poll_interval} s",
            )
        if self.recovery is not None and self.lease.length > self.recovery.sweep_threshold:
            raise OptionInvalid(
                "lease.length",
                f"{self.lease.length} s is longer than recovery.sweep_threshold of "
                f"{self.recovery.sweep_threshold} s: jobs would be taken from a worker that still runs them",
            )
