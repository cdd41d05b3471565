"""The jobs that a worker holds, and the sessions through which it claims, records and renews them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import attrs
import trio

from trio_graphile._database import cancellations, fleet, queue, samples, sweeps
from trio_graphile._database.claimer import Claimer
from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.database import Database
from trio_graphile._database.schema import migrate
from trio_graphile._database.session import Session
from trio_graphile._model.cancellation import CancelRequest
from trio_graphile._model.claims import Bound
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import WorkerOptions
from trio_graphile._model.recovery import ResetReport, SweepReport
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.flags import flag_rules
from trio_graphile._worker.heartbeat import describe_worker
from trio_graphile._worker.ledger import Ledger
from trio_graphile.hooks._chains import Chains
from trio_graphile.hooks._recovery import Sweep, sweep

logger = logging.getLogger("trio_graphile.worker")

_LOCK_SHARE = 0.25
"""Of the patience: a row that somebody has locked is found among others, for these to be written, in time."""
_SAMPLE_PATIENCE = 10.0
"""For charts nobody need wait who has dead workers to look for."""


@attrs.frozen
class Renewed:
    """What a renewal asked for, and what it found."""

    asked: tuple[Job, ...]
    found: fleet.Renewal


@attrs.define(eq=False)
class Holdings:
    """What stands in the database under one worker's id, as far as the worker knows."""

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions
    worker_id: str
    patience: float
    """How long a statement may take to end after a cancellation, in seconds."""
    ledger: Ledger
    """What we hold. A job whose run is over takes up no room of a bound."""
    statistics: Callable[[], dict[str, object]] = attrs.field(init=False, default=dict)
    """What our heartbeats add to what we are. Called in the lease's thread, too."""
    registered: bool = attrs.field(init=False, default=False)
    """Whether others can see that we live."""
    server_clock: ServerClock = attrs.field(init=False, factory=ServerClock)
    """By which silence is measured, and the age of locks."""
    claiming: Session = attrs.field(init=False)
    recording: Session = attrs.field(init=False)
    claimer: Claimer = attrs.field(init=False)
    _is_unsaid: bool = attrs.field(init=False, default=False)
    """Whether the server refused what the last heartbeat said."""

    def __attrs_post_init__(self) -> None:
        self.claiming = self.session("claim")
        self.claimer = Claimer(self.claiming, self.worker_id)
        self.recording = self.session("outcomes", self.patience * _LOCK_SHARE)

    def session(self, purpose: str, lock_patience: float | None = None) -> Session:
        """Return a session for one purpose; whoever asks closes it."""
        return Session(self.database, purpose, self.patience, lock_patience)

    async def prepare(self, *, releases_old_locks: bool = False) -> None:
        """Open the sessions, install the schema if need be, make tasks and worker known.

        Release, if that is wanted, what has been locked for hours: whoever has no sweeper does it here.
        """
        await self.claiming.open()
        await self.recording.open()
        async with self._own_session("start") as connection:  # it may wait for locks of others
            await migrate(connection, self.database.schema)
            if not self.tasks.identifiers:
                logger.warning("worker %s has no tasks: it will find nothing to do", self.worker_id)
            await queue.register_tasks(connection, self.tasks.identifiers)
            self.registered = self.options.recovery is not None and await fleet.has_registry(connection)
            await self._clock_is_steady(connection)  # from here on a step of it will be noticed
            if self.registered:
                await self._say(connection)
            if releases_old_locks:
                await sweeps.reset_stale_locks(connection)

    async def claim(self, limit: int) -> list[Job]:
        """Claim up to so many jobs, and of bounded tasks no more than their bounds."""
        flags = await flag_rules(self.options)
        try:
            self.ledger.claiming.acquire_nowait()  # else it would take a turn of the event loop, even if free
        except trio.WouldBlock:
            await self.ledger.claiming.acquire()
        try:
            if self.claimer.identifiers != self.tasks.identifiers:
                self.claimer.share(self.tasks.identifiers, self._bounds())
            unended = (job.task_identifier for job in self.ledger.unended())
            return await self.claimer.claim(limit, flags, unended)
        finally:
            self.ledger.claiming.release()

    @property
    def may_have_room_again(self) -> bool:
        """Whether the end of a job may let one be claimed that the last claim, or this one, left out."""
        claimer = self.claimer
        return claimer.hit_a_bound or (claimer.is_bounded and self.ledger.claiming.locked())

    def _bounds(self) -> list[Bound]:
        bounds = [
            Bound(task.options.concurrency, frozenset([task.identifier]))
            for task in self.tasks
            if task.options.concurrency is not None
        ]
        in_processes = frozenset(task.identifier for task in self.tasks if task.lane == "process")
        if in_processes:
            bounds.append(Bound(self.options.processes.count, in_processes))
        return bounds

    async def reconcile(self, session: Session) -> None:
        """Give back what is locked by us and unknown here: a claim whose answer was lost, say."""
        returned = await queue.reconcile(session, self.worker_id, self.ledger.snapshot())
        if returned:
            logger.warning("gave back jobs of a claim whose answer was lost: %s", sorted(returned))

    async def reconcile_claims(self) -> None:
        """Reconcile, for whoever claims: its session may be in use for something else."""
        async with self.ledger.claiming:
            await self.reconcile(self.claiming)

    async def cancel_requests(self) -> list[CancelRequest]:
        """Return which of our jobs are to be cancelled. No claim is under way: what we hold is known."""
        async with self.ledger.claiming:
            return await cancellations.get_cancel_requests(self.claiming, self.worker_id)

    async def forget_cancel_requests(self, requests: Sequence[CancelRequest]) -> None:
        """Delete requests that were heard."""
        async with self.ledger.claiming:
            await cancellations.forget_cancel_requests(self.claiming, self.worker_id, requests)

    async def renew(self, session: Session) -> Renewed:
        """Renew all that we hold, and our heartbeat. Runs in the lease's thread."""
        asked = self.ledger.snapshot()
        found = await fleet.renew(session, self.worker_id, asked)
        if self.registered:
            await self._say(session)
        await queue.register_tasks(session, self.tasks.identifiers)
        return Renewed(asked, found)

    async def sweep(self, chains: Chains) -> Sweep:
        """Give back the jobs of workers that died. On a session of its own: handlers may use up the pool."""
        options = self.options.recovery
        if options is None:
            return Sweep(SweepReport())
        async with self._own_session("recovery") as connection:
            if not await self._clock_is_steady(connection):
                return Sweep(SweepReport())
            return await sweep(connection, options, chains=chains, worker_id=self.worker_id)

    async def release_old_locks(self) -> ResetReport:
        """Release what has been locked for hours, whoever locked it."""
        async with self._own_session("recovery") as connection:
            if not await self._clock_is_steady(connection):
                return ResetReport()
            return await sweeps.reset_stale_locks(connection)

    async def take_sample(self) -> None:
        """Write down what the queue is like, for charts; not if it takes long."""
        with trio.move_on_after(_SAMPLE_PATIENCE):
            async with self._own_session("samples") as connection:
                await samples.take_sample(connection)

    async def _clock_is_steady(self, connection: Connection) -> bool:
        """Whether silence and the age of locks mean what they say: the server's clock was not set forward.

        For a while after that they do not: whoever lives gets the time to renew what it holds.
        """
        recovery = self.options.recovery
        period = self.options.lease.length if recovery is None else recovery.sweep_threshold
        steady_for = await self.server_clock.steady_for(connection, tolerance=period / 10)
        if steady_for < period:
            left = period - steady_for
            logger.warning("the server's clock was set forward: nobody is taken for dead for %.0f s", left)
        return steady_for >= period

    @property
    def trusts_server(self) -> bool:
        """Whether the server has kept what it said is committed: it was never lost, not even unnoticed."""
        if not (self.registered and self.database.options.prepared_statements):
            return False  # there is no `leave` to notice it, or a pooler in between
        return not (self.claiming.was_lost or self.recording.was_lost)

    async def release_rest(self) -> None:
        """Make sure that nothing is locked by us any more."""
        await self.reconcile(self.recording)

    async def leave(self) -> None:
        """Tell the others that we are gone."""
        if self.registered:
            await fleet.deregister(self.recording, self.worker_id)

    def terminate(self) -> None:
        """Cut the sessions off at once."""
        for session in (self.claiming, self.recording):
            session.terminate()

    async def aclose(self) -> None:
        """Close the sessions."""
        for session in (self.claiming, self.recording):
            await session.aclose()

    @contextlib.asynccontextmanager
    async def _own_session(self, purpose: str) -> AsyncIterator[Connection]:
        connection = await self.database.open_session(
            purpose,
            cancel_patience=self.patience,
            interruptible=True,  # it may take long, and whoever stops need not wait for it
        )
        try:
            yield connection
        finally:
            await connection.aclose()  # noqa: ASYNC102  # at most a second, at once if cancelled

    async def _say(self, executor: Executor) -> None:
        """Say that we live, and what we are and do."""
        said = {**describe_worker(self.options, self.tasks.identifiers), **self.statistics()}
        refusal = await fleet.heartbeat(executor, self.worker_id, said)
        if refusal is not None and not self._is_unsaid:
            logger.warning("the server refuses what the worker says of itself: %s", refusal)
        self._is_unsaid = refusal is not None
