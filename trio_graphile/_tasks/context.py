"""The context: the job, clients and state that a handler gets, and the notes it leaves for its worker."""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple, Unpack

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database import held_rows
from trio_graphile._database.connection import Connection, Isolation
from trio_graphile._database.database import Database
from trio_graphile._exceptions import JobLost, StatementFailed
from trio_graphile._model.app_state import find_state
from trio_graphile._model.jobs import Job
from trio_graphile._model.json import encode

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# In these isolation levels a transaction cannot write a row that was written since it began. Each renewal of
# its lock writes the row of the job, unless we lock that row from the start.
_SNAPSHOTS: tuple[Isolation, ...] = ("repeatable_read", "serializable")
_CONFLICT = "40001"  # the SQLSTATE of a serialization failure: a row was written since the snapshot
_TAKEN = "it was taken from this worker meanwhile"

CURRENT_JOB: ContextVar[Job | None] = ContextVar("trio_graphile_current_job", default=None)
"""The job that is being handled; whatever calls a handler sets it."""
_CANCELLED = object()


def _never(_job: Job) -> bool:
    return False


def current_job() -> Job | None:
    """Return the job that this code handles, in any lane; None outside of handlers."""
    return CURRENT_JOB.get()


class Completion(enum.Enum):
    """How far a handler has come in completing its job itself."""

    IN_DOUBT = "in doubt"
    """The commit was sent, and whether it took effect is unknown."""
    DONE = "done"


@attrs.define(eq=False, kw_only=True)
class JobNotes:
    """The notes that a handler leaves in its context for the worker."""

    progress: Any = None
    payload_json: str | None = None
    """The checkpoint: the payload with which the job runs again, if it has to."""
    completion: Completion | None = None
    """None if the handler has not tried to complete its job itself."""
    on_completed: Callable[[], None] | None = None
    """Called when the handler has completed its job itself."""
    # Kept for the worker to cancel it; never a shield.
    call: trio.CancelScope | None = None  # noqa: TID251
    """The scope around the call in the event loop for which the handler's thread waits."""
    is_told_to_stop: bool = False

    def tell_to_stop(self) -> None:
        """Cancel the call for which the handler's thread waits, and all calls that it makes later."""
        self.is_told_to_stop = True
        if self.call is not None:
            self.call.cancel()


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry `job_id`, `task` and `attempt`, and the fields that the caller adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the fields of the job to those of the caller."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


@attrs.frozen(kw_only=True, eq=False)
class JobContext:
    """What a handler gets: its job, a client, the state of the worker, and ways to report.

    Plain functions, which run in a thread, can use all of it but the async methods; they call these through
    `run`.
    """

    job: Job
    client: Client
    """Adds further jobs, on sessions of the pool. Only `complete_in_transaction` adds them in one transaction
    with the end of this job."""
    database: Database
    worker_id: str = ""
    state: Any = attrs.field(default=None, repr=False)
    """The state that the worker was made with. `get` finds a part of it by type, so type checkers know it."""
    stopping: trio.Event = attrs.field(factory=trio.Event, repr=False)
    """Set when the worker begins to stop; the handler then has the grace period left. A thread checks
    `stopping.is_set()`."""
    _notes: JobNotes = attrs.field(factory=JobNotes, repr=False)
    _to_json: Callable[[Any], str] = attrs.field(default=encode, repr=False)
    _was_claimed_again: Callable[[Job], bool] = attrs.field(default=_never, repr=False)
    """Whether the worker has claimed the job anew, or another job that got its id after a failover."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.job.attempts

    def get(self, wanted: type[T]) -> T:
        """Return the application state of a type: `context.get(Mailer)`. Raises `StateMissing`.

        If the task says `needs=[Mailer]`, the worker checks that the state exists when it is made.
        """
        return find_state(self.state, wanted)

    @property
    def logger(self) -> JobLogger:
        """The logger `trio_graphile.job`, whose records carry `job_id`, `task` and `attempt` here."""
        fields = {
            "job_id": self.job.id,
            "task": self.job.task_identifier,
            "attempt": self.job.attempts,
        }
        return JobLogger(logging.getLogger("trio_graphile.job"), fields)

    def report(self, progress: object) -> None:
        """Report how far the job has come, as any value, which `Worker.statistics` shows. Kept in memory."""
        self._notes.progress = progress

    def checkpoint(self, payload: Any) -> None:
        """Save where to go on if this run does not finish the job.

        `payload`, of the task's type, replaces the payload of the job when the job fails, snoozes or is given
        back. Until then it is kept in memory: if the worker is killed, it is lost. Raises `PayloadInvalid`.
        """
        self._notes.payload_json = self._to_json(payload)

    @contextlib.asynccontextmanager
    async def complete_in_transaction(self, isolation: Isolation | None = None) -> AsyncIterator[Connection]:
        """Lend a session with a transaction that completes the job, so what the body writes happens once.

        At the end of the body the job is deleted, and all is committed together. If the body raises, all is
        rolled back, and the job is as before. Raises `JobLost`, and rolls back, if another worker took the
        job meanwhile or it is completed already. An exception that the handler raises afterwards is only
        logged: the job stays completed.
        """
        notes = self._notes
        if notes.completion is not None:
            raise JobLost(self.job.id, "it has completed the job already, or may have")
        async with self.database.connection() as connection:
            try:
                async with self._transaction_that_can_complete(connection, isolation):
                    yield connection
                    await trio.lowlevel.checkpoint_if_cancelled()
                    is_ours = await held_rows.complete_job(connection, self.worker_id, self.job)
                    # Asked afterwards: what a newer claim has locked looks the same, and it may be under way.
                    if not is_ours or self._was_claimed_again(self.job):
                        raise JobLost(self.job.id, _TAKEN)
                    await trio.lowlevel.checkpoint_if_cancelled()  # without a commit, there is no doubt
                    notes.completion = Completion.IN_DOUBT
            except StatementFailed:
                notes.completion = None  # the server refused the commit, so nothing is committed
                raise
            notes.completion = Completion.DONE
            if notes.on_completed is not None:
                notes.on_completed()

    @contextlib.asynccontextmanager
    async def _transaction_that_can_complete(
        self, connection: Connection, isolation: Isolation | None
    ) -> AsyncIterator[None]:
        """Open a transaction; in a snapshot, lock the row of the job, so that nobody writes it meanwhile.

        A renewal may write the row between the snapshot and our lock. Nothing has been done by then, so the
        transaction begins anew.
        """
        takes_snapshot = (isolation or await connection.default_isolation()) in _SNAPSHOTS
        has_begun = False
        while not has_begun:
            try:
                async with connection.transaction(isolation):
                    if takes_snapshot and not await held_rows.lock_job(connection, self.worker_id, self.job):
                        raise JobLost(self.job.id, _TAKEN)
                    has_begun = True
                    yield
            except StatementFailed as error:
                if has_begun or error.sqlstate != _CONFLICT:
                    raise

    async def run_asyncio(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Run an asyncio function in the asyncio loop beside us, and return its result.

        If cancelled, this cancels the asyncio task and waits for its end. Raises whatever the function
        raises.
        """
        return await self.database.run_asyncio(function, *args)

    def run(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Run an async function in the worker's event loop and wait for it; for handlers in a thread.

        If the handler is cancelled, so is the call, and this raises `trio.Cancelled` as
        `trio.from_thread.check_cancelled` does. Raises whatever the function raises.
        """
        notes = self._notes

        async def call() -> T | object:
            # Kept to be cancelled by the worker; never a shield.
            with trio.CancelScope() as scope:  # noqa: TID251
                notes.call = scope
                try:
                    if notes.is_told_to_stop:
                        scope.cancel()
                    return await function(*args)
                finally:
                    notes.call = None
            return _CANCELLED

        result = trio.from_thread.run(call)
        if result is _CANCELLED:
            trio.from_thread.check_cancelled()
            raise AssertionError("it was cancelled, and its thread was not told")
        return result  # type: ignore[return-value]  # the only other object, the sentinel, is excluded above
