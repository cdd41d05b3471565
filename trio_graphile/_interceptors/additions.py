"""Interceptors of additions: they skip, refuse or rewrite jobs before these are added."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
from outcome import Error

from trio_graphile._database.crontabs import CronJob
from trio_graphile._exceptions import JobRefused, PayloadInvalid
from trio_graphile._interceptors.calls import ask, wrong_answer
from trio_graphile._interceptors.chains import Chains
from trio_graphile._model.failures import describe_error
from trio_graphile._model.jobs import NewJob, SkippedJob
from trio_graphile._model.json import decode, encode
from trio_graphile.hooks._questions import Continue, Fail, JobToAdd, Operation, Rewrite, Skip
from trio_graphile.hooks._registry import Hook

logger = logging.getLogger("trio_graphile.hooks")

Reader: TypeAlias = Callable[[str], object]
"""Reads the JSON text of a payload, as the task will. Raises `PayloadInvalid`."""


async def intercept_addition(
    chains: Chains, operation: Operation, new_job: NewJob, read: Reader | None = None
) -> NewJob | Skip:
    """Ask interceptors about a job that is about to be added. Return it with its final payload, or `Skip`.

    Raises `JobRefused` if an interceptor refuses the job or fails, and `PayloadInvalid` if `read` cannot read
    a payload that an interceptor has rewritten.
    """
    if not chains.before_job_schedule:
        return new_job
    identifier = new_job.identifier
    question = JobToAdd(
        identifier=identifier, payload=decode(new_job.payload_json), spec=new_job.spec, operation=operation
    )
    for hook in chains.before_job_schedule:
        match await ask(hook, question):
            case None | Continue():
                pass
            case Rewrite(payload):
                new_job = attrs.evolve(new_job, payload_json=_rewritten(hook, question, payload, read))
                question = attrs.evolve(question, payload=payload)
            case Skip() as skip:
                return skip
            case Fail(reason):
                raise JobRefused(identifier, reason)
            case Error(error):
                raise JobRefused(identifier, f"{hook} raised {describe_error(error)}") from error
            case answer:
                raise JobRefused(identifier, wrong_answer(hook, answer, "Continue, Rewrite, Skip or Fail"))
    return new_job


async def intercept_additions(
    chains: Chains, operation: Operation, new_jobs: Sequence[NewJob], readers: Sequence[Reader | None]
) -> tuple[list[NewJob], list[SkippedJob]]:
    """Ask about many jobs. Return the jobs to add and the skipped ones. Raises as `intercept_addition`."""
    wanted: list[NewJob] = []
    skipped: list[SkippedJob] = []
    for position, (new_job, read) in enumerate(zip(new_jobs, readers, strict=True)):
        match await intercept_addition(chains, operation, new_job, read):
            case Skip(reason):
                skipped.append(SkippedJob(position=position, identifier=new_job.identifier, reason=reason))
            case NewJob() as final:
                wanted.append(final)
    return wanted, skipped


async def intercept_cron_jobs(chains: Chains, jobs: Sequence[CronJob]) -> list[CronJob]:
    """Ask about recurring jobs. Return all of them, the final jobs in those that are wanted.

    A job that an interceptor skips or refuses is returned with `is_wanted=False`, so that its time counts as
    done. A refusal is logged, since no caller could receive it.
    """
    decided: list[CronJob] = []
    for job in jobs:
        try:
            answer = await intercept_addition(chains, "cron", job.new_job)
        except (JobRefused, PayloadInvalid) as error:
            logger.error("cron entry %s: nothing is added: %s", job.entry, error)  # noqa: TRY400  # the message says all
            answer = Skip()
        if isinstance(answer, Skip):
            decided.append(attrs.evolve(job, is_wanted=False))
        else:
            decided.append(attrs.evolve(job, new_job=answer))
    return decided


def _rewritten(hook: Hook, question: JobToAdd, payload: Any, read: Reader | None) -> str:
    """Return the JSON text of a rewritten payload. Raises `PayloadInvalid`, which names the interceptor."""
    try:
        text = encode(payload)
        if question.operation == "add_batch_job":
            _check_batch(payload)
        if read is not None:
            read(text)
    except (PayloadInvalid, ValueError) as error:
        reasons = error.reasons if isinstance(error, PayloadInvalid) else [str(error)]
        by = f"(as rewritten by {hook})"
    else:
        return text
    raise PayloadInvalid(question.identifier, [f"{reason} {by}" for reason in reasons])


def _check_batch(payload: object) -> None:
    if not isinstance(payload, (list, tuple)):
        raise ValueError("a batch needs a JSON array @ $")  # noqa: TRY004  # `encode` raises it, too
    if not payload:
        raise ValueError("a batch needs a JSON array with at least one item @ $")
