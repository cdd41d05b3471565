"""Sweeps in which interceptors have a say: they decide, then all is written at once, then it is told."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._database import sweeps
from trio_graphile._database.connection import Transactor
from trio_graphile._database.sweeps import RecoveryDecision
from trio_graphile._interceptors.chains import Chains, ask_about_recovery
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import SweepReport
from trio_graphile.hooks._job_events import JobInterrupted
from trio_graphile.hooks._questions import FailWithBackoff, JobToRecover, Reschedule, Skip


@attrs.frozen
class Sweep:
    """What a sweep did."""

    report: SweepReport
    jobs: Sequence[Job] = ()
    """The jobs that it gave back, as they were; none if nobody wants to know."""


async def sweep(
    database: Transactor, options: SweepOptions, *, chains: Chains, worker_id: str, dry_run: bool = False
) -> Sweep:
    """Give back the jobs of dead workers, each as interceptors want it."""
    if dry_run or not (chains.recover_job or chains.observers_of(JobInterrupted)):
        return Sweep(await sweeps.sweep(database, options, sweeper_id=worker_id, dry_run=dry_run))
    jobs = await sweeps.jobs_of_dead(database, options, sweeper_id=worker_id)
    decisions = [decision for job in jobs if (decision := await _decide(chains, job, worker_id)) is not None]
    report = await sweeps.sweep(database, options, sweeper_id=worker_id, decisions=decisions)
    return Sweep(report, [job for job in jobs if job.id in report.job_ids])


async def _decide(chains: Chains, job: Job, worker_id: str) -> RecoveryDecision | None:
    about = JobToRecover(job=job, worker_id=worker_id, previous_worker_id=job.locked_by or "")
    match await ask_about_recovery(chains.recover_job, about):
        case Skip():
            return RecoveryDecision(job=job, skip=True)
        case FailWithBackoff():
            return RecoveryDecision(job=job, fails=True)
        case Reschedule(run_at, attempts):
            return RecoveryDecision(job=job, run_at=run_at, attempts=attempts)
        case _:
            return None
