"""`JobClient`: adds jobs and changes those that wait. `_client_reading` has the part that only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeAlias, TypeVar, get_args

import attrs

from trio_graphile._client_reading import ReadingClient
from trio_graphile._database import cancellations, changes
from trio_graphile._database.adding.many import add_many
from trio_graphile._database.adding.one import add_job
from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._exceptions import JobSkipped, OptionInvalid, PayloadInvalid
from trio_graphile._interceptors.additions import Reader, intercept_addition, intercept_additions
from trio_graphile._interceptors.calls import around
from trio_graphile._interceptors.chains import NO_CHAINS, Chains
from trio_graphile._model.cancellation import DEFAULT_REASON, CancelledJobs, CancelOutcome
from trio_graphile._model.jobs import (
    BIGINT,
    Addable,
    AddedJobs,
    ChangedJobs,
    Job,
    JobChange,
    JobSpec,
    NewJob,
    check_identifier,
    check_task,
)
from trio_graphile._model.json import encode
from trio_graphile._model.texts import check_text
from trio_graphile._model.validators import check_kind, described
from trio_graphile.hooks._questions import Addition, Operation, Skip

PayloadT = TypeVar("PayloadT")
ItemT = TypeVar("ItemT")
T = TypeVar("T")
TypedJob: TypeAlias = tuple[Addable[PayloadT], PayloadT] | tuple[Addable[PayloadT], PayloadT, JobSpec | None]
"""A task, its payload and, optionally, how to add the job."""
RawJob: TypeAlias = tuple[str, Any] | tuple[str, Any, JobSpec | None]
"""The identifier of a task, a JSON value and, optionally, how to add the job."""

_PLAIN = JobSpec()


@attrs.frozen(eq=False)
class JobClient(ReadingClient):
    """Adds, changes and lists jobs on one connection, in whatever transaction is open there.

    `Client.using` makes it. All methods raise `DatabaseError`, and `SchemaMissing` if the schema is not
    installed. Each method is atomic: if it is cancelled, it took effect either as a whole or not at all.
    """

    _chains: Chains = attrs.field(default=NO_CHAINS, kw_only=True, repr=False)

    async def add_job(self, task: Addable[PayloadT], payload: PayloadT, spec: JobSpec | None = None) -> Job:
        """Add a job, or change the job under `spec.job_key` as `spec.job_key_mode` says; return the row.

        Raises `PayloadInvalid`, and `OptionInvalid` for what is no task or no spec. If plugins intercept
        additions, it also raises `JobSkipped` and `JobRefused`.
        """
        new_job = _typed_job((task, payload, spec))
        return await self._add_one("add_job", new_job, task.from_json)

    async def add_raw_job(self, identifier: str, payload: Any = None, spec: JobSpec | None = None) -> Job:
        """Add a job for a task that another program handles; otherwise like `add_job`.

        The payload is any JSON value. None is stored as `{}`, as by other programs.
        """
        new_job = _raw_job((identifier, payload, spec))
        return await self._add_one("add_job", new_job, None)

    async def add_batch_job(
        self, task: Addable[list[ItemT]], items: Iterable[ItemT], spec: JobSpec | None = None
    ) -> Job:
        """Add one job whose payload is the list of all items, of which there must be at least one.

        Under a job key, the items are appended to those of the waiting job. Otherwise like `add_job`.
        """
        if isinstance(items, str):
            raise OptionInvalid("items", "several items are needed, not one string")
        payload = list(items)
        if not payload:
            raise OptionInvalid("items", "at least one item is needed")
        new_job = _typed_job((task, payload, spec))
        return await self._add_one("add_batch_job", new_job, task.from_json)

    async def add_jobs(self, jobs: Iterable[TypedJob[PayloadT]]) -> AddedJobs:
        """Add many jobs at once, all or none; return the rows in the order of the jobs.

        Takes pairs of a task and its payload, or triples with a `JobSpec`. Raises `PayloadInvalid`,
        `DuplicateJobKey` if two jobs have the same key, and `OptionInvalid` for what is neither, and for the
        mode `unsafe_dedupe`, which only `add_job` supports. `AddedJobs.skipped` has the jobs that plugins
        left out; plugins may also raise `JobRefused`.
        """
        return await self._add_all(list(jobs), _typed_job, lambda job: job[0].from_json)

    async def add_raw_jobs(self, jobs: Iterable[RawJob]) -> AddedJobs:
        """Add many jobs for tasks that another program handles; like `add_jobs`, but by identifier."""
        return await self._add_all(list(jobs), _raw_job, lambda _: None)

    async def remove_job(self, job_key: str) -> Job | None:
        """Delete the job under a key; return it, or None if there is none.

        A job that runs is not interrupted but detached: it loses its key and is not tried again. Then the
        `key` of the returned job is None.
        """
        check_text("job_key", job_key)
        return await changes.remove_job(self._executor, job_key)

    async def complete_jobs(self, ids: Iterable[int]) -> ChangedJobs:
        """Delete jobs as if they had succeeded, except those that a worker has locked.

        Raises `OptionInvalid` for what is no id.
        """
        if not (ids := _job_ids(ids)):
            return ChangedJobs()
        return await changes.complete_jobs(self._executor, ids)

    async def permanently_fail_jobs(self, ids: Iterable[int], reason: str | None = None) -> ChangedJobs:
        """Fail jobs for good, with `reason` as their error, except those that a worker has locked.

        Raises `OptionInvalid` for what is no id, and for a reason that PostgreSQL cannot store.
        """
        if reason is not None:
            check_text("reason", reason)
        if not (ids := _job_ids(ids)):
            return ChangedJobs()
        return await changes.permanently_fail_jobs(self._executor, ids, reason)

    async def cancel_jobs(
        self, ids: Iterable[int], *, outcome: CancelOutcome = "fail", reason: str = DEFAULT_REASON
    ) -> CancelledJobs:
        """Interrupt the jobs that run, and fail those that wait. Returns before handlers have ended.

        The worker cancels the handler within moments. If the handler or the worker ends first, that result
        stands and the request has no effect. Otherwise the job has failed for good, with `reason` as its
        error; with the outcome `return` it goes back to the queue, and the attempt does not count. Raises
        `OptionInvalid`.
        """
        if outcome not in get_args(CancelOutcome):
            raise OptionInvalid("outcome", f"{outcome!r} is neither 'fail' nor 'return'")
        if not reason:
            raise OptionInvalid("reason", "a text is needed")
        check_text("reason", reason)
        if not (ids := _job_ids(ids)):
            return CancelledJobs()
        async with brief_transaction(self._executor) as connection:
            return await cancellations.cancel_jobs(connection, ids, outcome, reason)

    async def reschedule_jobs(
        self,
        ids: Iterable[int],
        *,
        run_at: datetime | None = None,
        priority: int | None = None,
        attempts: int | None = None,
        max_attempts: int | None = None,
    ) -> ChangedJobs:
        """Change the values that are given, zero included, of jobs that no worker has locked.

        A job without attempts left is tried again if `attempts` is lowered. Raises `OptionInvalid`.
        """
        change = JobChange(run_at=run_at, priority=priority, attempts=attempts, max_attempts=max_attempts)
        if not (ids := _job_ids(ids)):
            return ChangedJobs()
        return await changes.reschedule_jobs(self._executor, ids, change)

    async def force_unlock_workers(self, worker_ids: Iterable[str]) -> None:
        """Unlock the jobs and queues of workers that are gone for good.

        If such a worker still lives, its jobs may run twice at the same time.
        """
        if isinstance(worker_ids, str):
            raise OptionInvalid("worker_ids", f"several ids are needed, not the one string {worker_ids!r}")
        worker_ids = list(worker_ids)
        for worker_id in worker_ids:
            check_text("worker_ids", worker_id)
        await changes.force_unlock_workers(self._executor, worker_ids)

    async def _add_one(self, operation: Operation, new_job: NewJob, read: Reader | None) -> Job:
        if not self._chains.touches_additions:
            return await self._insert(new_job)
        with around(self._chains.around_job_schedule, Addition(operation, (new_job.identifier,))):
            wanted = await intercept_addition(self._chains, operation, new_job, read)
            if isinstance(wanted, Skip):
                raise JobSkipped(new_job.identifier, wanted.reason)
            return await self._insert(wanted)

    async def _insert(self, new_job: NewJob) -> Job:
        return await add_job(self._executor, new_job)

    async def _add_all(
        self, jobs: list[T], make: Callable[[T], NewJob], reader_of: Callable[[T], Reader | None]
    ) -> AddedJobs:
        if not self._chains.touches_additions:
            return await self._add_many(jobs, make)
        new_jobs, readers = [make(job) for job in jobs], [reader_of(job) for job in jobs]
        about = Addition("add_jobs", tuple(new_job.identifier for new_job in new_jobs))
        with around(self._chains.around_job_schedule, about):
            wanted, skipped = await intercept_additions(self._chains, "add_jobs", new_jobs, readers)
            added = await self._add_many(wanted, lambda new_job: new_job)
            return attrs.evolve(added, skipped=tuple(skipped))

    async def _add_many(self, jobs: list[T], make: Callable[[T], NewJob]) -> AddedJobs:
        return await add_many(self._executor, jobs, make)


def _parts_of(job: object) -> tuple[Any, Any, JobSpec]:
    """Take a job apart. Raises `OptionInvalid`, which shows no value, as any of them may be a payload."""
    if not isinstance(job, (tuple, list)) or len(job) not in (2, 3):
        what = f"{len(job)} values" if isinstance(job, (tuple, list)) else described(job)
        raise OptionInvalid("jobs", f"each is (task, payload) or (task, payload, JobSpec(...)), not {what}")
    spec = job[2] if len(job) == 3 else None
    if spec is None:
        spec = _PLAIN
    else:
        check_kind("spec", spec, JobSpec, "JobSpec(priority=1)")
    return job[0], job[1], spec


def _job_ids(ids: Iterable[int]) -> list[int]:
    """Return the ids of jobs as a list. Raises `OptionInvalid` for what cannot be one."""
    if not isinstance(ids, Iterable):
        raise OptionInvalid("ids", f"several ids are needed, such as [1, 2], not {ids!r}")
    ids = list(ids)
    for job_id in ids:
        if type(job_id) is not int:
            raise OptionInvalid("ids", f"an id is a whole number, not {job_id!r}")
        if job_id not in BIGINT:
            raise OptionInvalid("ids", f"no job can have the id {job_id}")
    return ids


def _typed_job(job: TypedJob[Any]) -> NewJob:
    task, payload, spec = _parts_of(job)
    try:
        return NewJob(task.identifier, task.to_json(payload), task.complete_spec(spec))
    except AttributeError:
        check_task(task, "add_raw_job and add_raw_jobs take identifiers")
        raise  # whoever takes the payload apart raised it


def _raw_job(job: RawJob) -> NewJob:
    identifier, payload, spec = _parts_of(job)
    check_identifier(identifier)
    try:
        text = "{}" if payload is None else encode(payload)
    except ValueError as error:
        raise PayloadInvalid(identifier, [str(error)]) from None
    return NewJob(identifier, text, spec)
