"""Jobs on their way into the table: what interceptors make of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from trio_graphile._database.crontabs import CronJob
from trio_graphile._exceptions import JobRefused, PayloadInvalid
from trio_graphile._interceptors.chains import Chains, Raised, call, wrong_answer
from trio_graphile._model.failures import describe_error
from trio_graphile._model.jobs import NewJob, SkippedJob
from trio_graphile._model.json import decode, encode
from trio_graphile.hooks._questions import Continue, Fail, JobToAdd, Operation, Rewrite, Skip
from trio_graphile.hooks._registry import Hook

logger = logging.getLogger("trio_graphile.hooks")

Reader: TypeAlias = Callable[[str], object]
"""Reads the JSON text of a payload. Raises `PayloadInvalid`."""


async def intercept_addition(
    chains: Chains, operation: Operation, new_job: NewJob, read: Reader | None = None
) -> NewJob | Skip:
    """Return the job as interceptors want it to be added, or that it is not to be.

    A payload that was rewritten has to be one that `read` can read. Raises `JobRefused`, `PayloadInvalid`.
    """
    if not chains.before_job_schedule:
        return new_job
    identifier = new_job.identifier
    about = JobToAdd(
        identifier=identifier, payload=decode(new_job.payload_json), spec=new_job.spec, operation=operation
    )
    for hook in chains.before_job_schedule:
        match await call(hook, about):
            case None | Continue():
                pass
            case Rewrite(payload):
                new_job = attrs.evolve(new_job, payload_json=_rewritten(hook, about, payload, read))
                about = attrs.evolve(about, payload=payload)
            case Skip() as skip:
                return skip
            case Fail(reason):
                raise JobRefused(identifier, reason)
            case Raised(error):
                raise JobRefused(identifier, f"{hook} raised {describe_error(error)}") from error
            case answer:
                raise JobRefused(identifier, wrong_answer(hook, answer, "Continue, Rewrite, Skip or Fail"))
    return new_job


async def intercept_additions(
    chains: Chains, operation: Operation, new_jobs: Sequence[NewJob], readers: Sequence[Reader | None]
) -> tuple[list[NewJob], list[SkippedJob]]:
    """Return those of many jobs that are to be added, and the others. Raises as for one."""
    wanted: list[NewJob] = []
    skipped: list[SkippedJob] = []
    for position, (new_job, read) in enumerate(zip(new_jobs, readers, strict=True)):
        match await intercept_addition(chains, operation, new_job, read):
            case Skip(reason):
                skipped.append(SkippedJob(position=position, identifier=new_job.identifier, reason=reason))
            case NewJob() as as_wanted:
                wanted.append(as_wanted)
    return wanted, skipped


async def intercept_cron_jobs(chains: Chains, jobs: Sequence[CronJob]) -> list[CronJob]:
    """Return recurring jobs as they are to be added; those that are not wanted are marked as such.

    What is refused is logged: nobody called who could be told.
    """
    wanted: list[CronJob] = []
    for job in jobs:
        try:
            found = await intercept_addition(chains, "cron", job.new_job)
        except (JobRefused, PayloadInvalid) as error:
            logger.error("cron entry %s: nothing is added: %s", job.entry, error)  # noqa: TRY400  # it says all
            found = Skip()
        if isinstance(found, Skip):
            wanted.append(attrs.evolve(job, is_wanted=False))
        else:
            wanted.append(attrs.evolve(job, new_job=found))
    return wanted


def _rewritten(hook: Hook, about: JobToAdd, payload: Any, read: Reader | None) -> str:
    try:
        text = encode(payload)
        if about.operation == "add_batch_job":
            _check_batch(payload)
        if read is not None:
            read(text)
    except (PayloadInvalid, ValueError) as error:
        reasons = error.reasons if isinstance(error, PayloadInvalid) else [str(error)]
        by = f"(as rewritten by {hook})"
    else:
        return text
    raise PayloadInvalid(about.identifier, [f"{reason} {by}" for reason in reasons])


def _check_batch(payload: object) -> None:
    if not isinstance(payload, (list, tuple)):
        raise ValueError("a batch needs a JSON array @ $")  # noqa: TRY004  # as `encode` says what it refuses
    if not payload:
        raise ValueError("a batch needs a JSON array with at least one item @ $")
