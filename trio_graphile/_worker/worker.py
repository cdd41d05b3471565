"""The worker: a nest of nurseries, whose nesting is the order of shutdown: innermost leaves first."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database import queue
from trio_graphile._database.database import Database
from trio_graphile._database.schema import migrate
from trio_graphile._database.session import Session
from trio_graphile._exceptions import DatabaseError, ShutdownIncomplete, WorkerBusy, WorkerCrashed, leaves
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import LocalQueueOptions, WorkerOptions
from trio_graphile._model.outcomes import Returned, ShutdownReport
from trio_graphile._tasks import JobContext, TaskRegistry
from trio_graphile._worker.listener import Listener
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.outcomes import Outcomes, Recording
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
    worker_id: str = attrs.field(init=False, factory=lambda: f"trio_graphile_{os.urandom(9).hex()}")
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
            self._run.ending.set()

    def cancel(self) -> None:
        """Stop at once: interrupt running jobs and give them back. `run` returns as after a stop."""
        self.stop()
        if self._run is not None:
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
    ending: trio.Event = attrs.field(init=False, factory=trio.Event)
    interrupt: Callable[[], None] = attrs.field(init=False, default=lambda: None)
    _ending_at: float = attrs.field(init=False, default=0.0)
    _known: dict[int, Job] = attrs.field(init=False, factory=dict)
    _claiming: Session = attrs.field(init=False)
    _recording: Session = attrs.field(init=False)
    _outcomes: Outcomes = attrs.field(init=False)
    _local_queue: LocalQueue = attrs.field(init=False)
    _runner: Runner = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        worker = self.worker
        self._claiming = self._session("claim")
        self._recording = session = self._session("outcomes")
        self._outcomes = Outcomes(
            recording=Recording(
                complete=lambda done: queue.complete_jobs(session, worker.worker_id, [o.job for o in done]),
                fail=lambda failures: queue.fail_jobs(session, worker.worker_id, failures),
                give_back=lambda back: queue.return_jobs(session, worker.worker_id, [o.job for o in back]),
            ),
            known=self._known,
            on_recorded=self._after_record,
        )
        self._local_queue = LocalQueue(
            claim=self._claim,
            reconcile=lambda: self._reconcile(self._claiming),
            give_back=lambda job: self._outcomes.put(Returned(job)),
            known=self._known,
            poll_interval=worker.options.poll_interval,
            ending=self.ending,
            options=_without_delay(worker.options.local_queue) if self._drain else worker.options.local_queue,
        )
        client = Client(worker.database, worker.tasks)
        self._runner = Runner(
            tasks=worker.tasks,
            make_context=lambda job: JobContext(
                job=job,
                worker_id=worker.worker_id,
                client=client,
                database=worker.database,
                state=worker.state,
                stopping=self.ending,
            ),
            record=self._outcomes.put,
        )

    async def serve(self, task_status: trio.TaskStatus[None]) -> ShutdownReport:
        """Run from start to end; what it raises is one exception, or a cancellation."""
        async with self._sessions():
            await self._prepare()
            try:
                await self._nest(task_status)
            except BaseExceptionGroup as group:
                verdict = _verdict(group)
                if verdict is None:
                    raise
                raise verdict from group
            finally:
                await self._flush()  # noqa: ASYNC102  # shielded and bounded inside
        report = ShutdownReport(
            worker_id=self.worker.worker_id,
            seconds=trio.current_time() - self._ending_at,
            **attrs.asdict(self._outcomes.counts),
        )
        logger.info("ended: %s", report)
        return report

    async def _nest(self, task_status: trio.TaskStatus[None]) -> None:
        """Recording ends when all that ran is handed over, handling when the slots are, intake first."""
        options = self.worker.options
        async with trio.open_nursery() as recording:
            await recording.start(self._outcomes.run, name="outcomes")
            async with trio.open_nursery() as handling:
                self.interrupt = handling.cancel_scope.cancel
                for number in range(options.concurrency):
                    handling.start_soon(self._slot, name=f"slot {number}")
                async with trio.open_nursery() as intake:
                    if self._drain:
                        intake.start_soon(self._drain_queue, name="local queue")
                    else:
                        if options.notifications:
                            await intake.start(self._listener().run, name="listener")
                        await intake.start(self._local_queue.run, name="local queue")
                    task_status.started()
                    await self.ending.wait()
                    self._ending_at = trio.current_time()
                    intake.cancel_scope.cancel()
                handling.cancel_scope.deadline = self._ending_at + options.shutdown.grace_period
            recording.cancel_scope.cancel()

    async def _slot(self) -> None:
        while True:
            await self._outcomes.wait_for_room()
            job = await self._local_queue.take()
            if job is None:
                return
            await self._runner.run(job)

    async def _drain_queue(self) -> None:
        await self._local_queue.drain()
        self.ending.set()

    async def _prepare(self) -> None:
        worker = self.worker
        connection = await self._claiming.open()
        await self._recording.open()
        await migrate(connection, worker.database.schema)
        if not worker.tasks.identifiers:
            logger.warning("worker %s has no tasks: it will find nothing to do", worker.worker_id)
        await queue.register_tasks(connection, worker.tasks.identifiers)

    async def _claim(self, limit: int) -> list[Job]:
        worker = self.worker
        return await queue.get_jobs(
            self._claiming, worker.worker_id, worker.tasks.identifiers, limit, worker.options.forbidden_flags
        )

    async def _reconcile(self, session: Session) -> None:
        returned = await queue.reconcile(session, self.worker.worker_id, list(self._known))
        if returned:
            logger.warning("gave back jobs of a claim whose answer was lost: %s", sorted(returned))

    async def _flush(self) -> None:
        """Write the last outcomes and make sure that nothing is left: the only words after the last job's."""
        reason: object = "the database did not answer in time"
        limit = self.worker.options.shutdown.flush_timeout * _FLUSH_SHARE
        with trio.move_on_after(limit, shield=True):
            try:
                await self._outcomes.flush()
                await self._reconcile(self._recording)
            except DatabaseError as error:
                reason = error
            else:
                return
        raise ShutdownIncomplete(
            self.worker.worker_id, sorted(self._known), f"not all was recorded: {reason}"
        )

    def _after_record(self, freed_a_queue: bool) -> None:  # noqa: FBT001  # a callback with one meaning
        if freed_a_queue or self._drain:
            self._local_queue.announce(1)

    def _listener(self) -> Listener:
        return Listener(self._listening_session, self._local_queue.announce)

    async def _listening_session(self) -> Any:
        return await self.worker.database.open_session("listen", cancel_patience=self._patience)

    def _session(self, purpose: str) -> Session:
        return Session(self.worker.database, purpose, self._patience)

    @property
    def _patience(self) -> float:
        return self.worker.options.shutdown.flush_timeout * _PATIENCE_SHARE

    @contextlib.asynccontextmanager
    async def _sessions(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for session in (self._claiming, self._recording):
                await session.aclose()


def _without_delay(options: LocalQueueOptions) -> LocalQueueOptions:
    return attrs.evolve(options, refetch_delay=None)  # a drain does not wait for more to come


def _verdict(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the one exception that stands for what a nest of nurseries raised; None for a cancellation."""
    _cancelled, rest = group.split(trio.Cancelled)
    if rest is None:
        return None
    errors = list(leaves(rest))
    for error in errors:
        if not isinstance(error, Exception):  # KeyboardInterrupt and its like are not a crash of ours
            return error
    return WorkerCrashed("; ".join(f"{type(error).__name__}: {error}" for error in errors))
