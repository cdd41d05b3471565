"""Sweeps with interceptors: they decide about each job of a dead worker, then one transaction writes all."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import attrs
from outcome import Error

from trio_graphile._database import sweeps
from trio_graphile._database.connection import Transactor
from trio_graphile._database.dead_jobs import RecoveryDecision
from trio_graphile._database.presence_locks import Gone
from trio_graphile._interceptors.calls import ask, wrong_answer
from trio_graphile._interceptors.chains import Chains
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import SweepReport
from trio_graphile.hooks._job_events import JobInterrupted
from trio_graphile.hooks._questions import Continue, FailWithBackoff, JobToRecover, Reschedule, Skip
from trio_graphile.hooks._registry import Hook

logger = logging.getLogger("trio_graphile.hooks")


@attrs.frozen
class Sweep:
    """What a sweep did."""

    report: SweepReport
    jobs: Sequence[Job] = ()
    """The jobs that it gave back, as dead workers had claimed them. Empty without hooks that ask for them."""


async def sweep(
    database: Transactor,
    options: SweepOptions,
    *,
    chains: Chains,
    worker_id: str,
    dry_run: bool = False,
    gone: Sequence[Gone] = (),
    orphans: bool = True,
) -> Sweep:
    """Give back the jobs of dead workers, each as interceptors decide. A dry run asks none of them.

    If `gone` names workers, the sweep is about them alone. `orphans` is whether to look for workers that are
    not registered, too.
    """
    if dry_run or not (chains.recover_job or chains.observers_of(JobInterrupted)):
        report = await sweeps.sweep(
            database, options, sweeper_id=worker_id, dry_run=dry_run, gone=gone, orphans=orphans
        )
        return Sweep(report)
    jobs = await sweeps.jobs_of_dead(database, options, sweeper_id=worker_id, gone=gone, orphans=orphans)
    questions = [
        JobToRecover(job=job, worker_id=worker_id, previous_worker_id=job.locked_by or "") for job in jobs
    ]
    decisions = [
        decision
        for question in questions
        if (decision := await _ask_about_recovery(chains.recover_job, question)) is not None
    ]
    report = await sweeps.sweep(
        database, options, sweeper_id=worker_id, decisions=decisions, gone=gone, orphans=orphans
    )
    return Sweep(report, [job for job in jobs if job.id in report.job_ids])


async def _ask_about_recovery(chain: Iterable[Hook], question: JobToRecover) -> RecoveryDecision | None:
    """Ask interceptors in turn, up to the first that decides. Return None if none does, or if one fails.

    Without a decision the job goes back with its attempt.
    """
    job = question.job
    for hook in chain:
        match await ask(hook, question):
            case None | Continue():
                pass
            case Skip():
                return RecoveryDecision(job=job, skip=True)
            case FailWithBackoff():
                return RecoveryDecision(job=job, fails=True)
            case Reschedule(run_at, attempts):
                return RecoveryDecision(job=job, run_at=run_at, attempts=attempts)
            case Error(error):
                logger.error("%s raised: job %d goes back with its attempt", hook, job.id, exc_info=error)
                return None
            case answer:
                wrong = wrong_answer(hook, answer, "Continue, Reschedule, FailWithBackoff or Skip")
                logger.error("%s: job %d goes back with its attempt", wrong, job.id)
                return None
    return None
