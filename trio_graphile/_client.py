"""`Client`: a program's way to its queue, each call in a transaction of its own."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import attrs

from trio_graphile._client_reading import STALE_THRESHOLD
from trio_graphile._database import worker_registry
from trio_graphile._database.adding.combined import CombinedAdds, combined_adds
from trio_graphile._database.adding.many import analyze_jobs
from trio_graphile._database.cleanup import clean_up
from trio_graphile._database.database import Database
from trio_graphile._database.schema import MigrationReport, migrate
from trio_graphile._exceptions import DatabaseError, OptionInvalid
from trio_graphile._interceptors.chains import Chains
from trio_graphile._interceptors.recoveries import sweep
from trio_graphile._job_client import JobClient
from trio_graphile._model.jobs import (
    AddedJobs,
    Cleanup,
    Job,
    NewJob,
)
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.recovery import SweepReport
from trio_graphile._model.similar import did_you_mean
from trio_graphile._model.texts import check_text
from trio_graphile._model.validators import check_kind, described
from trio_graphile.hooks._registry import Plugin, hooks_of

T = TypeVar("T")
logger = logging.getLogger("trio_graphile.client")

_MANY_JOBS = 10_000
"""From so many jobs on, the planner needs new statistics of the table."""


class Identifiers(Protocol):
    """The tasks of a program, as far as `Client` needs to know them."""

    @property
    def identifiers(self) -> Sequence[str]:
        """The identifiers of all tasks."""
        ...


def _has_identifiers(_: object, attribute: attrs.Attribute[Any], tasks: object) -> None:
    # Without asking for the identifiers themselves: a property of the user's may do anything.
    if tasks is not None and inspect.getattr_static(tasks, "identifiers", None) is None:
        raise OptionInvalid(attribute.name, f"a TaskRegistry is needed, not {described(tasks)}")


@attrs.frozen(eq=False)
class Client(JobClient):
    """Adds, changes and lists jobs, each call in a transaction of its own.

    `tasks` are the tasks of this program, if it has any: `cleanup` keeps their identifiers. `plugins`
    intercept added jobs, and the recovery of jobs of dead workers; give the same plugins to the worker, which
    uses them for jobs that handlers add. Only workers emit events; a client does not.
    """

    tasks: Identifiers | None = attrs.field(default=None, repr=False, validator=_has_identifiers)
    plugins: Sequence[Plugin] = attrs.field(default=(), kw_only=True, repr=False)
    _executor: Database = attrs.field(init=False, repr=False)
    _chains: Chains = attrs.field(init=False, repr=False)

    @_executor.default
    def _default_executor(self) -> Database:
        return self.database

    @_chains.default
    def _default_chains(self) -> Chains:
        return Chains.of(hooks_of(self.plugins))

    def using(self, connection: object) -> JobClient:
        """Return a client for a connection of yours (ours or asyncpg's). The transaction remains yours.

        Jobs that are added appear when that transaction commits. Raises `TypeError` for anything else.
        """
        return JobClient(self.database, self.database.adopt(connection), chains=self._chains)

    @contextlib.asynccontextmanager
    async def combining_adds(self) -> AsyncIterator[JobClient]:
        """Lend a client for many Trio tasks that call `add_job` at the same time.

        While one call is sent, others come to wait, and are sent together: in one transaction of their own,
        with one notification, through one session. Those must be alike but for their payloads, and have
        neither a key nor a queue; all other jobs are added as ever. Each call still returns its own job, or
        raises its own error: if the server refuses some, they are sent again one by one. Jobs that are not
        alike are sent one after the other. If the call that sends for others is cancelled, and that takes
        over a second more, the others raise `ConnectionLost`, too. The end of the block waits for what was
        sent; then `add_job` raises `DatabaseClosed`.
        """
        async with combined_adds(self.database) as adds:
            yield _CombiningClient(self.database, self.database, adds, chains=self._chains)

    async def cleanup(
        self, what: Iterable[Cleanup] = (Cleanup.GC_JOB_QUEUES,), *, keep_tasks: Iterable[str] = ()
    ) -> dict[Cleanup, int]:
        """Delete rows that are no longer needed, in the given order; return how many of each kind.

        Programs may add jobs meanwhile; if one of them takes longer than a second to add, no tasks and queues
        are deleted. `cleanup` keeps the identifiers of this client's tasks, of `keep_tasks`, and of the tasks
        that live workers advertise. Raises `OptionInvalid` for a kind that does not exist.
        """
        if isinstance(keep_tasks, str):
            raise OptionInvalid("keep_tasks", f"several are needed, not the one string {keep_tasks!r}")
        kinds, kept = list(map(_cleanup, what)), list(keep_tasks)
        for identifier in kept:
            check_text("keep_tasks", identifier)
        if self.tasks is not None:
            kept.extend(self.tasks.identifiers)
        async with self.database.connection() as connection:
            if Cleanup.GC_TASK_IDENTIFIERS in kinds and await worker_registry.has_registry(connection):
                kept.extend(await worker_registry.advertised_tasks(connection, STALE_THRESHOLD))
            return {kind: await clean_up(connection, kind, kept) for kind in kinds}

    async def sweep_stale_workers(
        self,
        threshold: float | None = None,
        recovery_delay: float | None = None,
        *,
        foreign_threshold: float | None = None,
        orphan_threshold: float | None = None,
        resilient_flags: Sequence[str] | None = None,
        resilient_multiplier: float | None = None,
        dry_run: bool = False,
    ) -> SweepReport:
        """Give back the jobs of workers that died, as workers with recovery do; a dry run changes nothing.

        Each argument defaults to the field of `RecoveryOptions` with its name; `threshold` is
        `sweep_threshold` there. Finds nothing while another sweep is under way. Raises `OptionInvalid`.
        """
        check_kind("dry_run", dry_run, bool)
        given: dict[str, Any] = {
            "sweep_threshold": threshold,
            "recovery_delay": recovery_delay,
            "foreign_threshold": foreign_threshold,
            "orphan_threshold": orphan_threshold,
            "resilient_flags": resilient_flags,
            "resilient_multiplier": resilient_multiplier,
        }
        options = SweepOptions(**{name: value for name, value in given.items() if value is not None})
        swept = await sweep(self.database, options, chains=self._chains, worker_id="client", dry_run=dry_run)
        return swept.report

    async def migrate(self) -> MigrationReport:
        """Install the schema, or bring it up to date. Raises `SchemaError`."""
        async with self.database.connection() as connection:
            return await migrate(connection, self.database.schema)

    async def _add_many(self, jobs: list[T], make: Callable[[T], NewJob]) -> AddedJobs:
        added = await super()._add_many(jobs, make)
        if len(added) >= _MANY_JOBS:
            try:
                await analyze_jobs(self.database)
            except DatabaseError as error:  # the jobs are added; only the planner lacks statistics
                logger.warning("the jobs table could not be analyzed: %s", error)
        return added


@attrs.frozen(eq=False)
class _CombiningClient(JobClient):
    """Adds jobs for many Trio tasks at once."""

    _adds: CombinedAdds = attrs.field(repr=False)

    async def _insert(self, new_job: NewJob) -> Job:
        return await self._adds.add_job(new_job)


def _cleanup(kind: str) -> Cleanup:
    try:
        return Cleanup(kind)
    except ValueError:
        hint = did_you_mean(str(kind), [str(known) for known in Cleanup])
        raise OptionInvalid("what", f"there is no {kind!r} to delete{hint}") from None
