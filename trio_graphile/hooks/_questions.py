"""What interceptors are asked, and what they may answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import SMALLINT, Job, JobSpec
from trio_graphile.hooks._job_events import InterruptReason

# --- what they are asked ------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class JobRun:
    """A job that is about to run."""

    job: Job
    worker_id: str


@attrs.frozen(kw_only=True)
class JobRunEnd:
    """A job whose handler has ended: by itself or by its timeout, and not because it was interrupted."""

    job: Job
    worker_id: str
    duration: float
    """How long its run took, in seconds."""
    error: str | None
    """What will stand in `last_error`; None if it succeeded."""


Operation: TypeAlias = Literal["add_job", "add_jobs", "add_batch_job", "cron"]


@attrs.frozen(kw_only=True)
class JobToAdd:
    """A job that is about to be added."""

    identifier: str
    """The identifier of its task."""
    payload: Any = attrs.field(repr=False)
    """The payload as plain JSON values. Not shown in the representation: it may hold secrets."""
    spec: JobSpec
    """How it is added, the task's own defaults included."""
    operation: Operation
    """By what: one of the methods of a client, raw or not, or a crontab."""


@attrs.frozen
class Addition:
    """Jobs that are about to be added by one call."""

    operation: Operation
    identifiers: tuple[str, ...]
    """The task of each job, in their order."""


@attrs.frozen(kw_only=True)
class JobToRecover:
    """A job of a dead worker that is about to be given back."""

    job: Job
    worker_id: str
    """Who gives it back: a worker, or `client` if `Client.sweep_stale_workers` does."""
    previous_worker_id: str
    """Who died."""
    reason: InterruptReason = InterruptReason.WORKER_CRASHED


# --- what they may answer -----------------------------------------------------------------------


@attrs.frozen
class Continue:
    """Ask the next interceptor; after the last one, do what would be done without any. As good as None."""


@attrs.frozen
class Skip:
    """Do not do it, and ask nobody else.

    A run then counts as completed, and the job is deleted; a job is not added; a job of a dead worker stays
    locked as it is, and is asked about again by the next sweep.
    """

    reason: str = ""


@attrs.frozen
class Fail:
    """Have it fail, and ask nobody else: the run fails with `reason` as its error, nothing is added."""

    reason: str
    permanent: bool = attrs.field(default=False, kw_only=True)
    """Whether a job whose run fails has no further attempt."""


@attrs.frozen
class Rewrite:
    """Add the job with another payload, of plain JSON values. The next interceptor sees that one."""

    payload: Any = attrs.field(repr=False)


def _aware(_: object, attribute: attrs.Attribute[datetime], value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise OptionInvalid(attribute.name, f"a datetime with a time zone is needed, not {value!r}")


def _attempts(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    if value is not None and not (type(value) is int and 0 <= value < SMALLINT.stop):
        raise OptionInvalid(attribute.name, f"a number of attempts from 0 is needed, not {value!r}")


@attrs.frozen
class Reschedule:
    """Give the job back for this time."""

    run_at: datetime = attrs.field(validator=_aware)
    attempts: int | None = attrs.field(default=None, validator=_attempts)
    """How many attempts count as used; None gives the one back that was interrupted."""


@attrs.frozen
class FailWithBackoff:
    """Have the interrupted run count as failed: the attempt is used, and the next one waits as ever."""


RunVerdict: TypeAlias = Continue | Skip | Fail | None
AddVerdict: TypeAlias = Continue | Rewrite | Skip | Fail | None
RecoveryVerdict: TypeAlias = Continue | Reschedule | FailWithBackoff | Skip | None

BeforeJobRun: TypeAlias = Callable[[JobRun], RunVerdict | Awaitable[RunVerdict]]
AfterJobRun: TypeAlias = Callable[[JobRunEnd], RunVerdict | Awaitable[RunVerdict]]
BeforeJobSchedule: TypeAlias = Callable[[JobToAdd], AddVerdict | Awaitable[AddVerdict]]
RecoverJob: TypeAlias = Callable[[JobToRecover], RecoveryVerdict | Awaitable[RecoveryVerdict]]
AroundJobRun: TypeAlias = Callable[[JobRun], AbstractContextManager[object]]
AroundJobSchedule: TypeAlias = Callable[[Addition], AbstractContextManager[object]]
