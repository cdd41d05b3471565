"""The context: what a handler is told of its job and lent for it, and what it leaves for its worker."""

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

# Whose transactions cannot write a row that was written since they began, as the job's is by each renewal of
# its lock; unless it is locked from the start.
_SNAPSHOTS: tuple[Isolation, ...] = ("repeatable_read", "serializable")
_CONFLICT = "40001"  # the SQLSTATE of a serialization failure
_TAKEN = "it was taken from this worker meanwhile"
"""Somebody has written a row since the snapshot."""

CURRENT_JOB: ContextVar[Job | None] = ContextVar("trio_graphile_current_job", default=None)
"""Set by whoever calls a handler."""
_CANCELLED = object()


def current_job() -> Job | None:
    """Return the job whose handler this code is called by, in whatever lane; None outside of handlers."""
    return CURRENT_JOB.get()


class Completion(enum.Enum):
    """How far a handler has come with completing its job itself."""

    NONE = "none"
    IN_DOUBT = "in doubt"
    """The commit was sent, and nobody knows what became of it."""
    DONE = "done"


@attrs.define(eq=False)
class JobNotes:
    """What a handler leaves with its context for the worker."""

    progress: Any = None
    payload_json: str | None = None
    """The checkpoint: what the payload is replaced by if the job has to run again."""
    completion: Completion = Completion.NONE
    on_completed: Callable[[], None] | None = None
    """Called when the handler has completed its job, if anybody cares."""
    # Kept to be cancelled by the worker; never a shield.
    call: trio.CancelScope | None = None  # noqa: TID251
    """Around what the handler's thread is waiting for in the event loop."""
    is_told_to_stop: bool = False

    def tell_to_stop(self) -> None:
        """Cancel what the handler's thread is waiting for, and whatever it will wait for."""
        self.is_told_to_stop = True
        if self.call is not None:
            self.call.cancel()


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry `job_id`, `task` and `attempt`, and what the caller adds."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the job's fields to those of the caller."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


@attrs.frozen(kw_only=True, eq=False)
class JobContext:
    """What a handler is told of its job and lent for it.

    Plain functions, which run in a thread, use all of it but the async methods, and these through `run`.
    """

    job: Job
    client: Client
    """Adds further jobs, on sessions of the pool: in a transaction with this job only through
    `complete_in_transaction`."""
    database: Database
    worker_id: str = ""
    state: Any = attrs.field(default=None, repr=False)
    """Whatever the worker was made with. `get` finds it by its type, for type checkers to know it."""
    stopping: trio.Event = attrs.field(factory=trio.Event, repr=False)
    """Set when the worker begins to stop; the handler has the grace period left. A thread asks
    `stopping.is_set()`."""
    _notes: JobNotes = attrs.field(factory=JobNotes, repr=False)
    _to_json: Callable[[Any], str] = attrs.field(default=encode, repr=False)

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 at the first."""
        return self.job.attempts

    def get(self, wanted: type[T]) -> T:
        """Return the application state of a type: `context.get(Mailer)`. Raises `StateMissing`.

        A task that says `needs=[Mailer]` has it checked when the worker is made.
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
        """Say how far the job has come, in whatever form: `Worker.statistics` shows it. Kept in memory."""
        self._notes.progress = progress

    def checkpoint(self, payload: Any) -> None:
        """Remember from where to go on if this run does not come to its end.

        `payload`, of the task's type, replaces that of the job when it fails, snoozes or is given back. It is
        kept in memory until then: a worker that is killed forgets it. Raises `PayloadInvalid`.
        """
        self._notes.payload_json = self._to_json(payload)

    @contextlib.asynccontextmanager
    async def complete_in_transaction(self, isolation: Isolation | None = None) -> AsyncIterator[Connection]:
        """Lend a session with a transaction that completes the job: what is written there happens once.

        At the end of the body the job is deleted and all is committed together; if it raises, all is rolled
        back, and the job is as it was. Raises `JobLost`, and rolls back, if the job was taken from us
        meanwhile or is completed already. What the handler does afterwards is its own affair: an exception
        is logged then, and the job stays completed.
        """
        notes = self._notes
        if notes.completion is not Completion.NONE:
            raise JobLost(self.job.id, "it has completed the job already, or may have")
        async with self.database.connection() as connection:
            try:
                async with self._transaction_that_can_complete(connection, isolation):
                    yield connection
                    await trio.lowlevel.checkpoint_if_cancelled()
                    if not await held_rows.complete_job(connection, self.worker_id, self.job):
                        raise JobLost(self.job.id, _TAKEN)
                    notes.completion = Completion.IN_DOUBT
            except StatementFailed:
                notes.completion = Completion.NONE  # a commit that is refused is none
                raise
            notes.completion = Completion.DONE
            if notes.on_completed is not None:
                notes.on_completed()

    @contextlib.asynccontextmanager
    async def _transaction_that_can_complete(
        self, connection: Connection, isolation: Isolation | None
    ) -> AsyncIterator[None]:
        """Open a transaction; in a snapshot, keep everybody else from writing the job's row meanwhile.

        A renewal may be written between the snapshot and that lock: nothing has been done by then, so the
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
        """Run an asyncio function in the asyncio loop that is open beside us, and return what it returns.

        If cancelled, its asyncio task is, and is waited for. Raises whatever it raises.
        """
        return await self.database.run_asyncio(function, *args)

    def run(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """From a plain function: run an async function in the worker's event loop and wait for it.

        When the handler is cancelled, the call is, and `trio.Cancelled` is raised here as by
        `trio.from_thread.check_cancelled`. Raises whatever the function raises.
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
        return result  # type: ignore[return-value]  # the only other object is gone
