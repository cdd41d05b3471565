"""The questions that interceptors are asked, and the answers that they may give."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import SMALLINT, Job, JobSpec
from trio_graphile._model.validators import of_kind
from trio_graphile.hooks._job_events import InterruptReason

# --- questions ----------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class JobRun:
    """A job that is about to run."""

    job: Job
    worker_id: str


@attrs.frozen(kw_only=True)
class JobRunEnd:
    """A job whose handler has returned, raised, or run into its timeout. Interrupted jobs are left out."""

    job: Job
    worker_id: str
    duration: float
    """How long its run took, in seconds."""
    error: str | None
    """The text for `last_error`; None if the handler succeeded."""


Operation: TypeAlias = Literal["add_job", "add_jobs", "add_batch_job", "cron"]


@attrs.frozen(kw_only=True)
class JobToAdd:
    """A job that is about to be added."""

    identifier: str
    """The identifier of its task."""
    payload: Any = attrs.field(repr=False)
    """The payload as plain JSON values. Not shown in the representation: it may hold secrets."""
    spec: JobSpec
    """The options of the job, with the defaults of its task filled in."""
    operation: Operation
    """The method of a client that adds it, be it the raw one or the typed one; or `cron` for a crontab."""


@attrs.frozen
class Addition:
    """Jobs that one call is about to add."""

    operation: Operation
    identifiers: tuple[str, ...]
    """The identifier of each job's task, in the order of the jobs."""


@attrs.frozen(kw_only=True)
class JobToRecover:
    """A job of a dead worker that is about to be given back."""

    job: Job
    worker_id: str
    """The worker that gives it back; `client` for `Client.sweep_stale_workers`."""
    previous_worker_id: str
    """The worker that died."""
    reason: InterruptReason = InterruptReason.WORKER_CRASHED
    """Why the job was interrupted."""


# --- answers ------------------------------------------------------------------------------------


@attrs.frozen
class Continue:
    """Ask the next interceptor; after the last one, go on as without interceptors. None means the same."""


@attrs.frozen
class Skip:
    """Do not run, add or recover the job, and ask no other interceptor.

    A skipped run counts as completed, and its job is deleted. A skipped addition adds nothing. A job whose
    recovery is skipped stays locked, and the next sweep asks about it again.
    """

    reason: str = ""


@attrs.frozen
class Fail:
    """Fail the run, with `reason` as its error, or refuse the addition. Ask no other interceptor."""

    reason: str = attrs.field(validator=of_kind(str))
    permanent: bool = attrs.field(default=False, kw_only=True, validator=of_kind(bool))
    """Whether the job has no further attempt. Ignored for additions. Defaults to False."""


@attrs.frozen
class Rewrite:
    """Add the job with another payload, of plain JSON values. The next interceptor is asked about it."""

    payload: Any = attrs.field(repr=False)


def _aware(_: object, attribute: attrs.Attribute[datetime], value: object) -> None:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise OptionInvalid(attribute.name, f"a datetime with a time zone is needed, not {value!r}")


def _attempts(_: object, attribute: attrs.Attribute[int | None], value: object) -> None:
    if value is not None and not (type(value) is int and 0 <= value < SMALLINT.stop):
        raise OptionInvalid(attribute.name, f"a number of attempts from 0 is needed, not {value!r}")


@attrs.frozen
class Reschedule:
    """Give the job back, to run at `run_at`."""

    run_at: datetime = attrs.field(validator=_aware)
    attempts: int | None = attrs.field(default=None, validator=_attempts)
    """The number of attempts that count as used. Defaults to None: all but the interrupted one."""


@attrs.frozen
class FailWithBackoff:
    """Count the interrupted run as failed: its attempt is used, and the usual delay precedes the next."""


RunAnswer: TypeAlias = Continue | Skip | Fail | None
AdditionAnswer: TypeAlias = Continue | Rewrite | Skip | Fail | None
RecoveryAnswer: TypeAlias = Continue | Reschedule | FailWithBackoff | Skip | None

BeforeJobRun: TypeAlias = Callable[[JobRun], RunAnswer | Awaitable[RunAnswer]]
AfterJobRun: TypeAlias = Callable[[JobRunEnd], RunAnswer | Awaitable[RunAnswer]]
BeforeJobSchedule: TypeAlias = Callable[[JobToAdd], AdditionAnswer | Awaitable[AdditionAnswer]]
RecoverJob: TypeAlias = Callable[[JobToRecover], RecoveryAnswer | Awaitable[RecoveryAnswer]]
AroundJobRun: TypeAlias = Callable[[JobRun], AbstractContextManager[object]]
AroundJobSchedule: TypeAlias = Callable[[Addition], AbstractContextManager[object]]
