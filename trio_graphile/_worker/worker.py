"""The worker: a nest of nurseries, whose nesting is the order of shutdown: innermost leaves first."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database import queue
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.session import persist
from trio_graphile._exceptions import (
    DatabaseError,
    ShutdownIncomplete,
    WorkerBusy,
    WorkerCrashed,
    leaves,
)
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import LocalQueueOptions, WorkerOptions
from trio_graphile._model.outcomes import Returned, ShutdownReport, StopCause
from trio_graphile._model.recovery import WORKER_ID_PREFIX
from trio_graphile._tasks import JobContext, TaskRegistry
from trio_graphile._worker.blocking import describe_block
from trio_graphile._worker.holdings import Holdings, Renewed
from trio_graphile._worker.lease import Lease
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.outcomes import Outcomes, Recording
from trio_graphile._worker.recovery import Sweeper
from trio_graphile._worker.runner import Runner

logger = logging.getLogger("trio_graphile.worker")

# Of flush_timeout: a statement in flight at a cancellation, the flush, and the flush's own last statement.
_PATIENCE_SHARE = 0.25
_FLUSH_SHARE = 0.5


@attrs.define(eq=False)
class Worker:
    """Runs the jobs of a queue; one more child of a nursery.

    However `run` ends, no job or queue is locked by this worker afterwards, and every job that it claimed is
    completed, failed, or back in the queue with its attempt; otherwise it raises `ShutdownIncomplete`.
    """

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions = attrs.field(factory=WorkerOptions)
    state: Any = attrs.field(default=None, kw_only=True)
    """Whatever handlers should find as `context.state`."""
    worker_id: str = attrs.field(init=False, factory=lambda: f"{WORKER_ID_PREFIX}{os.urandom(9).hex()}")
    """What stands in `locked_by` of the rows that this worker holds."""
    _run: _Run | None = attrs.field(init=False, default=None, repr=False)
    _stopping: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)
    _ended: trio.Event = attrs.field(init=False, factory=trio.Event, repr=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> ShutdownReport:
        """Run jobs until stopped or cancelled; a report says what became of them.

        Installs the schema if it is missing. `nursery.start` returns once the worker listens; what keeps
        it from starting (`DatabaseError`, `SchemaError`) is raised there. Later raises `WorkerCrashed` if a
        service fails for a reason that does not pass, and `ShutdownIncomplete`. Raises `WorkerBusy` if it
        runs already or has run and was stopped; one that was stopped before it ran ends at once.
        """
        if self._stopping.is_set() and not self._ended.is_set():
            task_status.started()
            self._ended.set()
            return ShutdownReport(worker_id=self.worker_id)
        with self._running(drain=False) as run:
            return await run.serve(task_status)

    async def run_once(self) -> ShutdownReport:
        """Run what is due, and what that adds, until nothing is due; later jobs are left for another time.

        Jobs of a named queue that another worker is busy with are left to it. Raises as `run` does.
        """
        with self._running(drain=True) as run:
            return await run.serve(trio.TASK_STATUS_IGNORED)

    def stop(self) -> None:
        """Stop gracefully: start nothing more, give running jobs the grace period, then interrupt them."""
        self._stopping.set()
        if self._run is not None:
            self._run.end(StopCause.STOPPED)

    def cancel(self) -> None:
        """Stop at once: interrupt running jobs and give them back. `run` returns as after a stop."""
        self._stopping.set()
        if self._run is not None:
            self._run.end(StopCause.CANCELLED)
            self._run.interrupt()

    async def wait_stopping(self) -> None:
        """Wait until `stop` or `cancel` was called."""
        await self._stopping.wait()

    async def wait_ended(self) -> None:
        """Wait until `run` or `run_once` has ended."""
        await self._ended.wait()

    @contextlib.contextmanager
    def _running(self, *, drain: bool) -> Iterator[_Run]:
        if self._run is not None:
            raise WorkerBusy("the worker is running already")
        if self._stopping.is_set():
            raise WorkerBusy("the worker was stopped; make a new one")
        self._run = _Run(self, drain=drain)
        try:
            yield self._run
        finally:
            self._run = None
            self._ended.set()


@attrs.define(eq=False)
class _Run:
    """One run of a worker: its services and how they are nested."""

    worker: Worker
    _drain: bool = attrs.field(kw_only=True)
    interrupt: Callable[[], None] = attrs.field(init=False, default=lambda: None)
    """Cancels the handlers, once there are any."""
    _ending: trio.Event = attrs.field(init=False, factory=trio.Event)
    _ending_at: float = attrs.field(init=False, default=0.0)
    _cause: StopCause = attrs.field(init=False, default=StopCause.CANCELLED)
    _holdings: Holdings = attrs.field(init=False)
    _outcomes: Outcomes = attrs.field(init=False)
    _local_queue: LocalQueue = attrs.field(init=False)
    _runner: Runner = attrs.field(init=False)
    _lease: Lease[Renewed] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        worker, options = self.worker, self.worker.options
        patience = options.shutdown.flush_timeout * _PATIENCE_SHARE
        self._holdings = Holdings(worker.database, worker.tasks, options, worker.worker_id, patience)
        self._outcomes = Outcomes(
            recording=self._recording(),
            known=self._holdings.known,
            on_recorded=self._after_record,
            no_claim=self._holdings.claim_lock,
            complete_delay=options.complete_delay,
            fail_delay=options.fail_delay,
        )
        self._lease = Lease(
            database=worker.database,
            options=options.lease,
            renew=self._holdings.renew,
            events=self,
            describe_block=partial(describe_block, runner=Runner.run.__code__),
        )
        self._local_queue = LocalQueue(
            claim=self._holdings.claim,
            reconcile=lambda: self._holdings.reconcile(self._holdings.claiming),
            give_back=lambda job: self._outcomes.put(Returned(job)),
            known=self._holdings.known,
            poll_interval=options.poll_interval,
            reconcile_interval=options.lease.length,
            ending=self._ending,
            lease_holds=self._lease.holds,
            options=_without_delay(options.local_queue) if self._drain else options.local_queue,
        )
        self._runner = Runner(
            tasks=worker.tasks, make_context=self._context_maker(), record=self._outcomes.put
        )

    def end(self, cause: StopCause) -> None:
        """Begin to end, for the first cause that is given."""
        if not self._ending.is_set():
            self._cause = cause
            self._ending.set()

    async def serve(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        """Run from start to end; what it raises is one exception, or a cancellation."""
        try:
            await self._holdings.prepare()
            if self._drain:  # which has no sweeper
                await self._holdings.release_old_locks()
            try:
                await self._nest(task_status)
            except BaseExceptionGroup as group:
                verdict = _verdict(group)
                if verdict is None:
                    raise
                raise verdict from group
        finally:
            await self._holdings.aclose()  # noqa: ASYNC102  # each session at most a second, none if cancelled
        report = ShutdownReport(
            worker_id=self.worker.worker_id,
            cause=self._cause,
            seconds=trio.current_time() - self._ending_at,
            **attrs.asdict(self._outcomes.counts),
        )
        logger.info("ended: %s", report)
        return report

    async def _nest(self, task_status: trio.TaskStatus[None]) -> None:
        """Presence outlives recording, recording outlives handling, handling outlives intake."""
        options = self.worker.options
        async with trio.open_nursery() as presence:
            try:
                await presence.start(self._lease.run, name="lease")
                if not self._drain:
                    await presence.start(self._sweeper().run, name="sweeper")
                async with trio.open_nursery() as recording:
                    await recording.start(self._outcomes.run, name="outcomes")
                    async with trio.open_nursery() as handling:
                        self.interrupt = handling.cancel_scope.cancel
                        for number in range(options.concurrency):
                            handling.start_soon(self._slot, name=f"slot {number}")
                        async with trio.open_nursery() as intake:
                            await self._start_intake(intake)
                            task_status.started()
                            await self._ending.wait()
                            self._ending_at = trio.current_time()
                            intake.cancel_scope.cancel()
                        handling.cancel_scope.deadline = self._ending_at + options.shutdown.grace_period
                    recording.cancel_scope.cancel()
            finally:
                try:
                    await self._flush()  # noqa: ASYNC102  # shielded and bounded inside
                finally:
                    self._lease.stop()
            presence.cancel_scope.cancel()

    async def _start_intake(self, intake: trio.Nursery) -> None:
        """Start what brings jobs, in the given nursery."""
        if self._drain:
            intake.start_soon(self._drain_queue, name="local queue")
            return
        if self.worker.options.notifications:
            await intake.start(self._listener().run, name="listener")
        await intake.start(self._local_queue.run, name="local queue")

    async def _slot(self) -> None:
        while True:
            await self._outcomes.wait_for_room()
            job = await self._local_queue.take()
            if job is None:
                return
            await self._runner.run(job)

    async def _drain_queue(self) -> None:
        await self._local_queue.drain()
        self.end(StopCause.DRAINED)

    async def _flush(self) -> None:
        """Write the last outcomes and make sure that nothing is left: the only words after the last job's."""
        reason: object = "the database did not answer in time"
        limit = self.worker.options.shutdown.flush_timeout * _FLUSH_SHARE
        with trio.move_on_after(limit, shield=True):
            try:
                await self._outcomes.flush()
                await persist(self._holdings.leave, what="leaving")
            except DatabaseError as error:
                reason = error
            else:
                return
        self._holdings.terminate()  # a polite farewell would take time that is up
        raise ShutdownIncomplete(
            self.worker.worker_id, sorted(self._holdings.known), f"not all was recorded: {reason}"
        )

    # --- what the lease says --------------------------------------------------------------------

    def renewed(self, renewal: Renewed) -> None:
        """Interrupt what is lost, and what was replaced if its task wants that."""
        lost = {job.id: job for job in renewal.asked if job.id in renewal.found.lost}
        self._local_queue.renewed(lost.values())
        for job in lost.values():
            self._runner.lose(job)
        for job in renewal.asked:
            if job.id in renewal.found.detached:
                self._runner.detach(job)

    def expiring(self) -> None:
        """Run nothing any more: others may take our jobs soon."""
        self._local_queue.suspend()
        self._runner.fence()

    def restored(self) -> None:
        """Claim again."""
        self._local_queue.resume()

    # --- how the services are made --------------------------------------------------------------

    def _recording(self) -> Recording:
        session, worker_id = self._holdings.recording, self.worker.worker_id
        return Recording(
            complete=lambda done: queue.complete_jobs(session, worker_id, [o.job for o in done]),
            fail=lambda failures: queue.fail_jobs(session, worker_id, failures),
            give_back=lambda back: queue.return_jobs(session, worker_id, [o.job for o in back]),
            remove=lambda removed: queue.complete_jobs(session, worker_id, [o.job for o in removed]),
        )

    def _context_maker(self) -> Callable[[Job], JobContext]:
        worker = self.worker
        client = Client(worker.database, worker.tasks)
        return lambda job: JobContext(
            job=job,
            worker_id=worker.worker_id,
            client=client,
            database=worker.database,
            state=worker.state,
            stopping=self._ending,
        )

    def _listener(self) -> Listener:
        return Listener(
            open=self._listening_session,
            on_jobs=self._local_queue.announce,
            on_breaking_migration=lambda: self.end(StopCause.SUPERSEDED),
            echo_channel=f"trio_graphile:echo:{self.worker.worker_id}",
        )

    async def _listening_session(self) -> Connection:
        return await self.worker.database.open_session("listen", cancel_patience=self._holdings.patience)

    def _sweeper(self) -> Sweeper:
        return Sweeper(
            options=self.worker.options.recovery if self._holdings.registered else None,
            sweep=self._holdings.sweep,
            reset=self._holdings.release_old_locks,
        )

    def _after_record(self, freed_a_queue: bool) -> None:  # noqa: FBT001  # a callback with one meaning
        if freed_a_queue or self._drain:
            self._local_queue.announce(1)


def _without_delay(options: LocalQueueOptions) -> LocalQueueOptions:
    return attrs.evolve(options, refetch_delay=None)  # a drain does not wait for more to come


def _verdict(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the one exception that stands for what a nest of nurseries raised; None for a cancellation."""
    _cancelled, rest = group.split(trio.Cancelled)
    if rest is None:
        return None
    errors = list(leaves(rest))
    for error in errors:
        if isinstance(error, ShutdownIncomplete) or not isinstance(error, Exception):
            return error  # the first is said already, KeyboardInterrupt and its like are not a crash of ours
    return WorkerCrashed("; ".join(f"{type(error).__name__}: {error}" for error in errors))
