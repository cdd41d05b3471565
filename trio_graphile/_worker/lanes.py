"""The lanes: how a handler is called in the event loop, a thread or a process, and how it is interrupted.

Each lane calls one handler inside the scope that interrupts it, and returns how the call ended. To interrupt:

- async: the handler is cancelled at its next checkpoint, and waited for.
- thread: the handler is told to stop (`trio.from_thread.check_cancelled`) and waited for. If the worker ends,
  it is waited for no longer than the cancel timeout; then it is abandoned, and named in the report.
- process: the process is killed.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs
import outcome
import trio

from trio_graphile._exceptions import OptionInvalid, TaskInvalid
from trio_graphile._model.failures import Failure
from trio_graphile._model.groups import leaves
from trio_graphile._model.jobs import Job
from trio_graphile._model.options import ProcessOptions
from trio_graphile._model.outcomes import AbandonedThread
from trio_graphile._tasks.context import JobContext, JobNotes
from trio_graphile._tasks.process import (
    Address,
    Retirement,
    address_of,
    call_in_process,
    find_tasks,
    prepare_process,
)
from trio_graphile._tasks.task import Task
from trio_graphile._worker.stacks import describe_place

logger = logging.getLogger("trio_graphile.worker")

T = TypeVar("T")


class End(enum.Enum):
    """How a call ended in which the handler did not fail."""

    RETURNED = "returned"
    INTERRUPTED = "interrupted"


RETURNED = End.RETURNED
"""The member itself: on Python 3.11, to look it up in its class takes 40 ns, and each run does it twice."""
Ended: TypeAlias = End | Failure


class ProcessPool(Protocol):
    """Runs functions in other processes: a worker context of trio-parallel."""

    async def run_sync(
        self,
        function: Callable[..., T],
        *args: Any,
        kill_on_cancel: bool,
        limiter: trio.CapacityLimiter,
    ) -> T: ...


@attrs.define(eq=False)
class Call(JobNotes):
    """One call of a handler: its job, its context, and the scope that interrupts it."""

    # These by position: made by name, a call takes 0.1 us longer.
    task: Task[Any]
    job: Job
    scope: trio.CancelScope  # noqa: TID251  # kept to be cancelled by somebody else; never a shield
    """Entered by the caller for an async handler; the other lanes enter it themselves."""
    context: JobContext | None = attrs.field(default=None, kw_only=True)
    """None if the handler takes no context."""


@attrs.define(eq=False, kw_only=True)
class Lanes:
    """Calls handlers, each in its lane."""

    _cancel_timeout: float
    """How long a thread is waited for once the worker has to end, in seconds."""
    _threads: trio.CapacityLimiter
    """Has one token for each slot. Handlers may use up Trio's default limiter."""
    _process_options: ProcessOptions
    abandoned: list[AbandonedThread] = attrs.field(factory=list)
    """The threads that went on although the worker ended."""
    _pool: ProcessPool | None = None
    _processes: trio.CapacityLimiter = attrs.field(init=False)
    _addresses: dict[str, Address] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._processes = trio.CapacityLimiter(self._process_options.count)

    def prepare(self, tasks: Iterable[Task[Any]]) -> None:
        """Find the handlers that run in processes, in the same way as a process does.

        Raises `OptionInvalid` if trio-parallel is missing, and `TaskInvalid` if a process would not find a
        handler.
        """
        self._addresses = {task.identifier: address_of(task) for task in tasks if task.lane == "process"}
        if self._addresses:
            _import_trio_parallel()

    @contextlib.asynccontextmanager
    async def open(self, closing_timeout: float) -> AsyncIterator[None]:
        """Keep a pool of processes while the body runs, if a task needs one.

        After the body, idle processes have `closing_timeout` seconds to end; then they are killed.
        """
        if not self._addresses:
            yield
            return
        trio_parallel = _import_trio_parallel()
        error: BaseException | None = None
        try:
            async with trio_parallel.open_worker_context(
                idle_timeout=self._process_options.idle_timeout,
                init=prepare_process,
                retire=Retirement(self._process_options.jobs_per_process),
                grace_period=closing_timeout,
            ) as self._pool:
                try:
                    yield
                except BaseException as raised:
                    error = raised
                    raise
        except trio_parallel.BrokenWorkerError as broken:
            logger.warning("idle processes did not end in time: %s", broken.args[0])
            if error is not None:
                raise error from None
        finally:
            self._pool = None

    async def prestart(self) -> None:
        """Start all processes and have them import their handlers, if the options say so.

        Raises what the imports raise, and `TaskInvalid` if a process dies meanwhile. Cancelled, kills them.
        """
        if self._pool is None or not self._process_options.prestart:
            return
        addresses = tuple(self._addresses.values())
        trio_parallel = _import_trio_parallel()
        start = partial(
            self._pool.run_sync, find_tasks, addresses, kill_on_cancel=True, limiter=self._processes
        )
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self._process_options.count):
                    nursery.start_soon(start)
        except* trio_parallel.BrokenWorkerError as group:
            broken = next(leaves(group))
            modules = ", ".join(sorted({address.module for address in addresses}))
            code = broken.args[-1].exitcode
            reason = f"a process died while it imported {modules}, with exit code {code}"
            raise TaskInvalid(addresses[0].identifier, reason) from None

    def call(self, call: Call) -> Awaitable[Ended]:
        """Call a handler and wait until it ends. Raises what the handler raises, cancellation included.

        Returns `End.INTERRUPTED` if the scope of the call was cancelled and left.
        """
        match call.task.lane:
            case "async":
                return self._call_async(call)
            case "thread":
                return self._call_in_thread(call)
            case "process":
                return self._call_in_process(call)

    @trio.lowlevel.disable_ki_protection
    async def _call_async(self, call: Call) -> Ended:
        """Call an async handler. Ctrl-C can interrupt the handler, but not the code around it."""
        task, text = call.task, call.job.payload_json
        result = await task.call(task.from_json(text), call.context)
        return RETURNED if result is None else _ended(task.failure_of_result(result, text))

    async def _call_in_process(self, call: Call) -> Ended:
        address = self._addresses.get(call.task.identifier)
        if self._pool is None or address is None:
            raise TaskInvalid(call.task.identifier, "it was registered after the worker had started")
        trio_parallel = _import_trio_parallel()
        try:
            with call.scope:
                return _ended(
                    await self._pool.run_sync(
                        call_in_process, address, call.job, kill_on_cancel=True, limiter=self._processes
                    )
                )
        except trio_parallel.BrokenWorkerError as broken:
            return Failure(f"its process died, with exit code {broken.args[-1].exitcode}")
        return End.INTERRUPTED

    async def _call_in_thread(self, call: Call) -> Ended:
        thread = _HandlerThread(call)
        try:
            with call.scope:
                await trio.lowlevel.checkpoint_if_cancelled()
                await thread.run(self._threads)
            await self._wait_ended(thread)
        except trio.Cancelled:  # noqa: ASYNC103  # where it is not raised on, the slot is cancelled at its next checkpoint
            if not thread.is_started:
                raise
            with trio.move_on_after(self._cancel_timeout, shield=True):
                await thread.ended.wait()
            if thread.result is None:
                self._abandon(thread)
            if thread.result is None or thread.is_interrupted:
                raise
            # Its result counts, as that of an async handler that was cancelled too late.
        if thread.result is None:
            return End.INTERRUPTED
        if thread.is_interrupted and not call.is_told_to_stop:
            return Failure("Cancelled: the handler raised it though nobody had told it to stop")
        return thread.result.unwrap()

    async def _wait_ended(self, thread: _HandlerThread) -> None:
        """Wait for a thread that was told to stop while the worker goes on: its job stays locked."""
        if not thread.is_started or thread.ended.is_set():
            return
        with trio.move_on_after(self._cancel_timeout):
            await thread.ended.wait()
            return
        found = thread.describe()
        logger.warning(
            "job %d (%s) was told to stop and still runs, at %s; its slot waits",
            found.job_id,
            found.task_identifier,
            found.place,
        )
        await thread.ended.wait()

    def _abandon(self, thread: _HandlerThread) -> None:
        found = thread.describe()
        self.abandoned.append(found)
        logger.error(
            "job %d (%s) still runs in the thread %r although the worker ends, at %s",
            found.job_id,
            found.task_identifier,
            found.thread,
            found.place,
        )


@attrs.define(eq=False)
class _HandlerThread:
    """A handler in a thread. `run` can be cancelled while the thread goes on; `ended` is set at its end."""

    _call: Call
    ended: trio.Event = attrs.field(factory=trio.Event)
    result: outcome.Outcome[Ended] | None = None
    """None for as long as it has not ended."""
    is_started: bool = False
    _identity: int = 0
    _token: trio.lowlevel.TrioToken = attrs.field(factory=trio.lowlevel.current_trio_token)

    async def run(self, limiter: trio.CapacityLimiter) -> None:
        """Run the handler and wait until it ends. Cancelled, tell it to stop, and leave it running."""
        # Not cancelled now, and the limiter has a token for each slot: so the thread does start.
        self.is_started = True
        try:
            await trio.to_thread.run_sync(
                self._run, abandon_on_cancel=True, limiter=limiter, thread_name=self._name
            )
        except trio.Cancelled:
            self._call.tell_to_stop()
            raise

    def describe(self) -> AbandonedThread:
        """Return which thread it is, and which line it runs."""
        job = self._call.job
        return AbandonedThread(
            job_id=job.id,
            task_identifier=job.task_identifier,
            thread=self._name,
            place=describe_place(self._identity, self._call.task.home),
        )

    @property
    def is_interrupted(self) -> bool:
        """Whether the handler was told to stop, and did."""
        return isinstance(self.result, outcome.Value) and self.result.value is End.INTERRUPTED

    @property
    def _name(self) -> str:
        return f"job {self._call.job.id}"

    def _run(self) -> None:
        """Call the handler; in the thread."""
        self._identity = threading.get_ident()
        try:
            self.result = self._call_handler()
        finally:
            with contextlib.suppress(trio.RunFinishedError):  # the worker's loop has ended
                self._token.run_sync_soon(self.ended.set)

    def _call_handler(self) -> outcome.Outcome[Ended]:
        task, text = self._call.task, self._call.job.payload_json
        try:
            result = task.call(task.from_json(text), self._call.context)
            return outcome.Value(_ended(task.failure_of_result(result, text)))
        except BaseException as error:  # noqa: BLE001, ASYNC103  # it is raised in the slot
            errors = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
            if not errors:
                return outcome.Value(End.INTERRUPTED)  # noqa: ASYNC104  # it was told to stop, and did; this is not a Trio task
            # A `Cancelled` among other errors has no meaning outside of the thread.
            is_mixed = len(errors) < len(list(leaves(error)))
            failure = BaseExceptionGroup("it was told to stop", errors) if is_mixed else error
            return outcome.Error(failure)  # noqa: ASYNC104  # as above


def _ended(failure: Failure | None) -> Ended:
    return RETURNED if failure is None else failure


def _import_trio_parallel() -> Any:
    try:
        import trio_parallel  # type: ignore[import-untyped]  # noqa: PLC0415  # it has no py.typed, and only who has tasks in processes pays for it
    except ModuleNotFoundError:
        raise OptionInvalid(
            "lane", "tasks in processes need trio-parallel: pip install 'trio-graphile[processes]'"
        ) from None
    return trio_parallel
