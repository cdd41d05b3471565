"""Options: each field, its unit, its default and its limits, once."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.processors import count_processors

DEFAULT_SCHEMA = "graphile_worker"

Flags: TypeAlias = (
    Sequence[str] | Callable[[], Sequence[str] | None] | Callable[[], Awaitable[Sequence[str] | None]]
)
"""Flags, or a function that is asked for them before each claim. What it answers with None is no rule."""


def seconds(maximum: float, *, zero: bool = False) -> Any:
    """Return a validator for a number of seconds that catches milliseconds at the door."""

    def check(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise OptionInvalid(attribute.name, f"a number of seconds is needed, not {value!r}")
        if not value >= 0 or (value == 0 and not zero):
            raise OptionInvalid(attribute.name, f"{value} is not a positive number of seconds")
        if value > maximum:
            raise OptionInvalid(
                attribute.name, f"{value:.15g} seconds are over the maximum of {maximum:.15g}"
            )

    return check


def whole_number(least: int, most: int) -> Any:
    """Return a validator for a whole number within limits."""

    def check(_: object, attribute: attrs.Attribute[int], value: int) -> None:
        if type(value) is not int:
            raise OptionInvalid(attribute.name, f"a whole number is needed, not {value!r}")
        if not least <= value <= most:
            raise OptionInvalid(attribute.name, f"{value} is not between {least} and {most}")

    return check


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
    return tuple(value)


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

    schema: str = attrs.field(factory=_default_schema)
    """The schema of the queue. Defaults to `$GRAPHILE_WORKER_SCHEMA`, else `graphile_worker`."""
    pool_size: int = attrs.field(default=10, validator=whole_number(1, 10_000))
    """How many sessions clients and handlers share; a worker's own sessions come on top."""
    connect_timeout: float = attrs.field(default=5.0, validator=seconds(600))
    """How long opening one session may take, with each of several hosts. A URL may say it, too, and wins."""
    wait_for_server: float | None = attrs.field(default=None, validator=seconds(86_400))
    """How long to wait at the start for a server that is not up yet; by default not at all."""
    statement_timeout: float = attrs.field(default=60.0, validator=seconds(86_400))
    """How long one statement may take before the server gives it up, and we the session a little later."""
    prepared_statements: bool = True
    """False behind a pooler in transaction mode: no named statements, no session settings."""
    direct_url: str | None = attrs.field(default=None, repr=False)  # it may hold a password
    """A second URL, past the pooler, for the few sessions that must be direct: a worker's that listens for
    jobs, and that of its lease. Defaults to the same as all others."""


@attrs.frozen(kw_only=True)
class RefetchDelayOptions:
    """A pause after a claim that brought few jobs, so that a trickle of jobs is claimed in batches."""

    duration: float = attrs.field(validator=seconds(600))
    """About how long, in seconds: half to one and a half times as long, at random."""
    threshold: int = attrs.field(default=0, validator=whole_number(0, 1_000_000))
    """Up to how many jobs are few."""
    max_abort_threshold: float | None = attrs.field(default=None, validator=_abort_threshold)
    """How many announced jobs end the pause early, drawn at random up to this; by default five times the size
    of the local queue, and infinity for never."""


@attrs.frozen(kw_only=True)
class LocalQueueOptions:
    """Jobs claimed ahead of the slots that will run them. Durations are seconds."""

    size: int = attrs.field(default=0, validator=whole_number(0, 1_000_000))
    """How many jobs may be held beyond what idle slots can run at once; 0 claims only for idle slots."""
    ttl: float = attrs.field(default=300.0, validator=seconds(86_400))
    """How long a job may be held before it is given back to others."""
    refetch_delay: RefetchDelayOptions | None = None


@attrs.frozen(kw_only=True)
class ProcessOptions:
    """The processes in which tasks of the lane `process` run. Durations are seconds."""

    count: int = attrs.field(factory=count_processors, validator=whole_number(1, 10_000))
    """How many of them may run at once. Defaults to the number of processors that this
    process may use."""
    jobs_per_process: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole_number(1, 1_000_000_000))
    )
    """After how many jobs a process is replaced by a fresh one: what leaks, leaks no further. By default
    never."""
    idle_timeout: float = attrs.field(default=600.0, validator=seconds(86_400))
    """After how long without a job a process ends."""


@attrs.frozen(kw_only=True)
class ShutdownOptions:
    """How a worker ends. The sum of both bounds a graceful stop, `flush_timeout` alone a cancellation."""

    grace_period: float = attrs.field(default=25.0, validator=seconds(86_400, zero=True))
    """How long running handlers may go on after a stop. Zero interrupts them at once."""
    flush_timeout: float = attrs.field(default=4.0, validator=seconds(600))
    """How long the last outcomes may take to be written."""


@attrs.frozen(kw_only=True)
class LeaseOptions:
    """How a worker keeps its claims alive, and what it does when it cannot. Durations are seconds.

    Rust workers with recovery take what was not renewed for five minutes, other workers of ours what was not
    renewed for their `sweep_threshold`: `length` must be the shortest of these in the fleet.
    """

    length: float = attrs.field(default=300.0, validator=seconds(86_400))
    """After how long without a renewal others may take our jobs."""
    renew_interval: float = attrs.field(
        default=attrs.Factory(lambda self: self.length / 10, takes_self=True), validator=seconds(3600)
    )
    """How often locks and heartbeat are renewed. Defaults to a tenth of the length."""
    margin: float = attrs.field(
        default=attrs.Factory(lambda self: self.length / 10, takes_self=True), validator=seconds(3600)
    )
    """How long before the end of its lease a worker that cannot renew it interrupts its handlers. Defaults to
    a tenth of the length."""
    blocked_after: float = attrs.field(default=5.0, validator=seconds(3600))
    """After how long a handler that blocks the event loop is named in the log."""

    def __attrs_post_init__(self) -> None:
        if self.renew_interval * 2 > self.length - self.margin:
            raise OptionInvalid(
                "renew_interval",
                f"{self.renew_interval} s leaves no second try within the {self.length} s of the lease less "
                f"its margin of {self.margin} s",
            )


@attrs.frozen(kw_only=True)
class SweepOptions:
    """Which workers are taken for dead, and when their jobs run again. Durations are seconds."""

    sweep_threshold: float = attrs.field(default=300.0, validator=seconds(86_400))
    """After how long without a sign of life a worker is taken for dead."""
    foreign_threshold: float = attrs.field(default=300.0, validator=seconds(86_400))
    """The same for registered workers of another kind, those of Rust, if it is longer: they send a heartbeat
    every 30 seconds unless told otherwise. Must be several times as long as the time between theirs."""
    orphan_threshold: float = attrs.field(default=14_400.0, validator=seconds(604_800))
    """After how long locks of workers that never register, those of Node above all, are taken for abandoned.
    Nothing renews these locks: a shorter time than the longest job has such jobs run twice."""
    recovery_delay: float = attrs.field(default=30.0, validator=seconds(21_600, zero=True))
    """How long a job waits that is taken from a dead worker."""
    resilient_flags: tuple[str, ...] = attrs.field(
        default=("infrastructure_resilient",), converter=_resilient_flags
    )
    """A worker that holds a job with any of these flags is given more time."""
    resilient_multiplier: float = attrs.field(default=3.0, validator=_multiplier)
    """How many times as much."""

    def __attrs_post_init__(self) -> None:
        if self.orphan_threshold < self.sweep_threshold:
            raise OptionInvalid(
                "orphan_threshold",
                f"{self.orphan_threshold} s is shorter than the sweep_threshold of {self.sweep_threshold} s",
            )


@attrs.frozen(kw_only=True)
class RecoveryOptions(SweepOptions):
    """How a worker shows that it lives, and looks for others that do not. Durations are seconds."""

    sweep_interval: float = attrs.field(default=60.0, validator=seconds(3600))
    """About how often it looks for dead workers: up to a fifth more or less, at random."""
    reset_interval: float = attrs.field(default=540.0, validator=seconds(7200))
    """About how often it releases locks older than four hours: up to a ninth more or less, at random. Workers
    without recovery do so, too."""


@attrs.frozen(kw_only=True)
class CronOptions:
    """What becomes of times of a crontab that nobody was awake for. Durations are seconds."""

    catch_up_window: float = attrs.field(default=3600.0, validator=seconds(31_536_000))
    """How late a job may be added by a worker that slept, or could not reach the database: at least 60. An
    entry's own backfill period counts if it is longer, and alone for what it missed while no worker ran."""
    missed_limit: int = attrs.field(default=100, validator=whole_number(1, 100_000))
    """For how many missed times of one entry jobs are added at once, the latest ones. With 1, only the latest
    counts."""

    def __attrs_post_init__(self) -> None:
        if self.catch_up_window < 60:
            raise OptionInvalid(
                "catch_up_window",
                f"{self.catch_up_window} s is less than 60: what is a little late would be left out",
            )


@attrs.frozen(kw_only=True)
class ObserverOptions:
    """How observers of events are called. Durations are seconds. Of no effect without observers."""

    timeout: float = attrs.field(default=5.0, validator=seconds(3600))
    """How long one observer may take for one event; then it is cancelled. One that does not await cannot be,
    and holds up the event loop: it is named in the log."""
    queue_size: int = attrs.field(default=10_000, validator=whole_number(1, 10_000_000))
    """How many events may wait for observers that are too slow; further ones are dropped, and counted."""


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """How a worker runs. Durations are seconds. Raises `OptionInvalid`."""

    concurrency: int = attrs.field(factory=count_processors, validator=whole_number(1, 100_000))
    """How many jobs run at once: the number of slots. Defaults to the number of processors that this process
    may use."""
    poll_interval: float = attrs.field(default=2.0, validator=seconds(600))
    """How often to look for due jobs when nothing wakes the worker."""
    notifications: bool = True
    """False never opens a LISTEN session: jobs are then found by polling alone."""
    forbidden_flags: Flags = attrs.field(default=(), converter=_forbidden_flags)
    """Jobs with any of these flags are left to other workers. A function, async or not, is asked before each
    claim: rate limits are made of this."""
    accepted_flags: Flags | None = attrs.field(default=None, converter=_accepted_flags)
    """Only jobs that have at least one of these flags are taken: none without flags. Flags, or a function as
    above; unset, or None, is no rule."""
    allowed_flags: Flags | None = attrs.field(default=None, converter=_allowed_flags)
    """Only jobs that have no others than these flags are taken: if there are none, only jobs without flags.
    Flags, or a function as above; unset, or None, is no rule."""
    local_queue: LocalQueueOptions = attrs.field(factory=LocalQueueOptions)
    complete_delay: float = attrs.field(default=0.0, validator=seconds(60, zero=True))
    """How long a completion waits for others to be recorded with. Under load they gather by themselves."""
    fail_delay: float = attrs.field(default=0.0, validator=seconds(60, zero=True))
    """How long a failure waits for others to be recorded with."""
    processes: ProcessOptions = attrs.field(factory=ProcessOptions)
    cron: CronOptions = attrs.field(factory=CronOptions)
    lease: LeaseOptions = attrs.field(factory=LeaseOptions)
    recovery: RecoveryOptions | None = attrs.field(factory=RecoveryOptions)
    """None neither registers the worker nor looks for dead ones; its locks are kept all the same, and locks
    older than four hours are released."""
    shutdown: ShutdownOptions = attrs.field(factory=ShutdownOptions)
    observers: ObserverOptions = attrs.field(factory=ObserverOptions)

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
