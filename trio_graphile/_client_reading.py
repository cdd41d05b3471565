"""The part of the client that only reads: jobs, tasks, queues and workers of a database."""

from __future__ import annotations

import attrs

from trio_graphile._database import inspection, worker_registry
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.inspection import count_jobs
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.delays import check_delay
from trio_graphile._model.inspection import (
    JobFilter,
    JobPage,
    ListedJob,
    QueueStatus,
    TaskStatus,
    WorkerStatus,
    status_of_workers,
)
from trio_graphile._model.jobs import BIGINT
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import ActiveWorker
from trio_graphile._model.statistics import Backlog
from trio_graphile._model.validators import check_kind, of_kind

_ANY = JobFilter()
STALE_THRESHOLD = SweepOptions().sweep_threshold


@attrs.frozen(eq=False)
class ReadingClient:
    """Reads the queue on one connection, in whatever transaction is open there; it changes nothing."""

    database: Database = attrs.field(validator=of_kind(Database))
    _executor: Database | Connection = attrs.field(repr=False)

    async def jobs(self, which: JobFilter = _ANY) -> JobPage:
        """Return one page of the jobs that meet all conditions, by id.

        `JobPage.next` asks for the next page, which begins after the last job of this one. So no job appears
        twice, and every job that existed from the start appears, whatever is added and completed meanwhile.
        """
        check_kind("which", which, JobFilter, "JobFilter(limit=10)")
        return await inspection.list_jobs(self._executor, which)

    async def job(self, job_id: int) -> ListedJob | None:
        """Return the job with this id; None if it was completed, removed, or never added."""
        if type(job_id) is not int:
            raise OptionInvalid("job_id", f"a whole number is needed, not {job_id!r}")
        if job_id not in BIGINT:
            return None
        return (await inspection.get_listed(self._executor, [job_id])).get(job_id)

    async def queues(self) -> list[QueueStatus]:
        """Return all named queues, by name, with how many jobs they have.

        It reads each row of the jobs' table once, and so do `known_tasks` and `workers`.
        """
        return await inspection.list_queues(self._executor)

    async def known_tasks(self) -> list[TaskStatus]:
        """Return the tasks of all programs that the database knows, with their jobs by state."""
        return await inspection.list_tasks(self._executor)

    async def workers(self, stale_threshold: float = STALE_THRESHOLD) -> list[WorkerStatus]:
        """Return the registered workers, then the unregistered ones that have jobs or queues locked.

        A worker that has sent no heartbeat for `stale_threshold` seconds is marked as stale.
        """
        check_delay("stale_threshold", stale_threshold)
        holders = await inspection.list_lock_holders(self._executor)
        registered: list[ActiveWorker] = []
        if await worker_registry.has_registry(self._executor):
            registered = await worker_registry.list_active_workers(self._executor, stale_threshold)
        return status_of_workers(registered, holders)

    async def list_active_workers(self, stale_threshold: float = STALE_THRESHOLD) -> list[ActiveWorker]:
        """Return the registered workers, the one with the latest heartbeat first.

        A worker that has sent no heartbeat for `stale_threshold` seconds is marked as stale.
        """
        check_delay("stale_threshold", stale_threshold)
        return await worker_registry.list_active_workers(self._executor, stale_threshold)

    async def backlog(self) -> Backlog:
        """Count the jobs of all programs by state.

        It reads each row of the table once: about a tenth of a second for half a million jobs.
        """
        return await count_jobs(self._executor)
