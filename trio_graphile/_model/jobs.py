"""Jobs as values: `JobSpec` says how to add one, `Job` is a row of the table."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.instants import time_of
from trio_graphile._model.json import decode
from trio_graphile._model.texts import flaw_of
from trio_graphile._model.validators import described

SMALLINT = range(-32768, 32768)
BIGINT = range(-(2**63), 2**63)
MAX_NAME_LENGTH = 128  # characters
MAX_KEY_LENGTH = 512  # characters
DEFAULT_MAX_ATTEMPTS = 25


class JobKeyMode(enum.StrEnum):
    """What adding a job does if another job has its key."""

    REPLACE = "replace"
    """Overwrite the waiting job, its time included; a running one is detached and not tried again."""
    PRESERVE_RUN_AT = "preserve_run_at"
    """Like `REPLACE`, but a job that was never tried keeps its time."""
    UNSAFE_DEDUPE = "unsafe_dedupe"
    """Add nothing while any job has the key, even one that runs or has failed for good."""


def _name(limit: int, *, may_be_empty: bool) -> Any:
    def check(_: object, attribute: attrs.Attribute[str | None], value: str | None) -> None:
        if value is None:
            return
        if not isinstance(value, str):
            raise OptionInvalid(attribute.name, f"a string is needed, not {value!r}")
        if len(value) > limit:
            raise OptionInvalid(attribute.name, f"{len(value)} characters are over the limit of {limit}")
        if not value and not may_be_empty:
            raise OptionInvalid(attribute.name, "the empty string cannot be a key; leave it out instead")
        if flaw := flaw_of(value):
            raise OptionInvalid(attribute.name, flaw)

    return check


def _smallint(least: int = SMALLINT.start) -> Any:
    def check(_: object, attribute: attrs.Attribute[int | None], value: int | None) -> None:
        if value is None:
            return
        if type(value) is not int:
            raise OptionInvalid(attribute.name, f"a whole number is needed, not {value!r}")
        if value < least or value not in SMALLINT:
            raise OptionInvalid(attribute.name, f"{value} is not between {least} and {SMALLINT.stop - 1}")

    return check


def _aware(_: object, attribute: attrs.Attribute[datetime | None], value: datetime | None) -> None:
    if value is None:
        return
    if not isinstance(value, datetime):
        raise OptionInvalid(attribute.name, f"a datetime is needed, not {value!r}")
    if value.utcoffset() is None:
        raise OptionInvalid(attribute.name, f"{value} has no time zone; use datetime.now(UTC) and the like")


def check_identifier(identifier: object) -> None:
    """Raise `OptionInvalid` for what cannot be a task's identifier."""
    if callable(identifier):
        raise OptionInvalid("identifier", 'a string is needed, as in @tasks.task("send_welcome")')
    if not isinstance(identifier, str):
        raise OptionInvalid("identifier", f"a string is needed, not {identifier!r}")
    if not 1 <= len(identifier) <= MAX_NAME_LENGTH:
        raise OptionInvalid(
            "identifier", f"{len(identifier)} characters are not between 1 and {MAX_NAME_LENGTH}"
        )
    if flaw := flaw_of(identifier):
        raise OptionInvalid("identifier", flaw)


def check_task(task: object, by_identifier: str = "") -> None:
    """Raise `OptionInvalid` for what is no task; `by_identifier` is the way out if an identifier will not do.

    The message shows no value but an identifier: the task may have been mixed up with its payload.
    """
    if all(hasattr(task, name) for name in ("identifier", "to_json", "from_json", "complete_spec")):
        return
    if isinstance(task, str):
        raise OptionInvalid("task", f"a task is needed, not the string {task!r}: {by_identifier}")
    if callable(task):
        name = getattr(task, "__qualname__", type(task).__qualname__)
        raise OptionInvalid(
            "task", f'a task is needed, not {name} itself: @tasks.task("...") makes a task of a function'
        )
    raise OptionInvalid("task", f"a task is needed, as @tasks.task makes it, not {described(task)}")


def flags_given(value: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return flags as a tuple. Raises `OptionInvalid` for a string, of which each letter would be a flag."""
    if isinstance(value, str):
        raise OptionInvalid("flags", f"a sequence of flags is needed, not the one string {value!r}")
    return None if value is None else tuple(value)


def _mode(value: JobKeyMode | str) -> JobKeyMode:
    try:
        return JobKeyMode(value)
    except ValueError:
        known = ", ".join(mode.value for mode in JobKeyMode)
        raise OptionInvalid("job_key_mode", f"{value!r} is not one of {known}") from None


def flags_valid(_: object, attribute: attrs.Attribute[Any], value: tuple[object, ...] | None) -> None:
    """Raise `OptionInvalid` for what cannot be a flag."""
    for flag in value or ():
        if not isinstance(flag, str):
            raise OptionInvalid(attribute.name, f"{flag!r} is not a flag: flags are strings")
        if flaw := flaw_of(flag):
            raise OptionInvalid(attribute.name, f"{flag!r} is not a flag: {flaw}")


@attrs.frozen(kw_only=True)
class JobSpec:
    """How to add a job. What is left out gets the default of the database.

    Raises `OptionInvalid` for values that the database could never store.
    """

    queue_name: str | None = attrs.field(default=None, validator=_name(MAX_NAME_LENGTH, may_be_empty=True))
    """The named queue, whose jobs run strictly one after the other, in all workers together. Up to 128
    characters."""
    run_at: datetime | None = attrs.field(default=None, validator=_aware)
    """The job runs at this (aware) time at the earliest. Defaults to now, by the clock of the database."""
    max_attempts: int | None = attrs.field(default=None, validator=_smallint(1))
    """How many attempts the job has. Defaults to 25."""
    job_key: str | None = attrs.field(default=None, validator=_name(MAX_KEY_LENGTH, may_be_empty=False))
    """The key, which at most one job has: adding again replaces that job. 1 to 512 characters."""
    job_key_mode: JobKeyMode = attrs.field(default=JobKeyMode.REPLACE, converter=_mode)
    """What to do with the job that has the key already; without a key it has no effect."""
    priority: int | None = attrs.field(default=None, validator=_smallint())
    """The priority, from -32768 to 32767; lower numbers run first. Defaults to 0."""
    flags: Sequence[str] | None = attrs.field(default=None, converter=flags_given, validator=flags_valid)
    """Labels by which workers choose jobs: see `forbidden_flags`, `accepted_flags` and `allowed_flags`."""


@attrs.frozen
class NewJob:
    """A job that is about to be added; its payload is JSON text already."""

    identifier: str
    payload_json: str
    spec: JobSpec


@attrs.frozen(kw_only=True)
class JobChange:
    """The changes that `reschedule_jobs` makes; None changes nothing. Raises `OptionInvalid`."""

    run_at: datetime | None = attrs.field(default=None, validator=_aware)
    priority: int | None = attrs.field(default=None, validator=_smallint())
    attempts: int | None = attrs.field(default=None, validator=_smallint(0))
    max_attempts: int | None = attrs.field(default=None, validator=_smallint(1))

    def __attrs_post_init__(self) -> None:
        if all(value is None for value in attrs.astuple(self)):
            raise OptionInvalid("run_at", "nothing to change: give this, priority, attempts or max_attempts")


TIMES = ("run_at", "created_at", "updated_at", "locked_at")


class TimesFromSeconds:
    """The times of a job that was read from its row, which holds them as seconds since 1970.

    They are made when a program reads one, which is rare: to make all four takes longer than the rest of a
    job. A job that was made with times has no seconds.
    """

    __slots__ = ("_seconds",)
    _seconds: tuple[float, float, float, float | None]
    """The seconds of the fields in `TIMES`."""

    if not TYPE_CHECKING:  # otherwise type checkers would take any attribute to exist

        def __getattr__(self, name: str) -> Any:
            """Make the times, once. Python calls this for a field that has no value yet."""
            if name not in TIMES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name)
            for time, seconds in zip(TIMES, self._seconds, strict=True):
                object.__setattr__(self, time, time_of(seconds))
            return getattr(self, name)


@attrs.frozen(kw_only=True, weakref_slot=False)
class Job(TimesFromSeconds):
    """One row of the queue, as it was when it was read."""

    id: int
    task_identifier: str
    payload_json: str = attrs.field(repr=False)
    """The payload as stored, to the byte. Not shown in the job's representation: it may hold secrets."""
    queue_name: str | None = None
    priority: int = 0
    run_at: datetime
    """The time, in UTC like all others. Times beyond what Python has become its first or its last."""
    attempts: int = 0
    """How many attempts have begun, including the current one."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    last_error: str | None = None
    created_at: datetime
    updated_at: datetime
    key: str | None = None
    revision: int = 0
    """How many times a job with a key was added again."""
    flags: tuple[str, ...] = ()
    """The flags, with which workers compare their `forbidden_flags`, `accepted_flags` and `allowed_flags`."""
    locked_at: datetime | None = None
    locked_by: str | None = None

    @property
    def payload(self) -> Any:
        """The payload as plain Python values, decoded anew at each access."""
        return decode(self.payload_json)

    @property
    def waited(self) -> float:
        """How long the job had been due when it was locked, in seconds; infinite if it always was."""
        try:
            run_at, _, _, locked_at = self._seconds
        except AttributeError:  # it was made with times
            return 0.0 if self.locked_at is None else (self.locked_at - self.run_at).total_seconds()
        return 0.0 if locked_at is None else locked_at - run_at  # runs for each job


@attrs.frozen(kw_only=True)
class SkippedJob:
    """A job that an interceptor left out when it was to be added with others."""

    position: int
    """The position of the job among the given ones, from 0."""
    identifier: str
    """The identifier of its task."""
    reason: str
    """The reason that the interceptor gave."""


@attrs.frozen(eq=False, repr=False, slots=False)
class AddedJobs(Sequence[Job]):  # noqa: PLW1641  # no hash, as a list has none
    """The rows of jobs that were added together, in the order of the jobs.

    They become jobs when a program looks at the first one: few programs do, and for many jobs it takes time.
    """

    _count: int = 0
    _parts: tuple[Callable[[], list[Job]], ...] = ()
    """The functions that make them, each some of the jobs."""
    skipped: tuple[SkippedJob, ...] = ()
    """The jobs that interceptors left out; they have no rows."""

    @cached_property
    def _jobs(self) -> list[Job]:
        return [job for part in self._parts for job in part()]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        return self._jobs[index]

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (AddedJobs, list)):
            return NotImplemented
        return self._jobs == list(other)

    def __repr__(self) -> str:
        return f"AddedJobs({self._jobs!r})"


@attrs.frozen
class ChangedJobs:
    """The result of completing, failing or rescheduling jobs."""

    jobs: tuple[Job, ...] = ()
    """The jobs that were changed, as they are now (completed ones: as they were)."""
    skipped_ids: tuple[int, ...] = ()
    """Ids of no job, and of jobs that a worker has had locked for less than four hours."""


class Cleanup(enum.StrEnum):
    """The kinds of rows that `Client.cleanup` deletes."""

    DELETE_PERMANENTLY_FAILED_JOBS = "delete_permanently_failed_jobs"
    """Jobs that failed and have no attempt left."""
    GC_TASK_IDENTIFIERS = "gc_task_identifiers"
    """Tasks without a job. Workers of other kinds overlook such a task when it comes back, until they
    restart."""
    GC_JOB_QUEUES = "gc_job_queues"
    """Named queues without a job."""


PayloadT_contra = TypeVar("PayloadT_contra", contravariant=True)


class Addable(Protocol[PayloadT_contra]):
    """A task, as far as `Client.add_job` needs to know it."""

    @property
    def identifier(self) -> str:
        """The name under which the job is stored."""
        ...

    def to_json(self, payload: PayloadT_contra) -> str:
        """Return the payload as JSON text. Raises `PayloadInvalid`."""
        ...

    def from_json(self, text: str) -> object:
        """Return the payload in a JSON text. Raises `PayloadInvalid`."""
        ...

    def complete_spec(self, spec: JobSpec) -> JobSpec:
        """Return a spec in which the defaults of the task replace what was left out."""
        ...
