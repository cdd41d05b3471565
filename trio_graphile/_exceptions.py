"""The exceptions of the package: one root, one class per reaction, the facts as attributes.

The mistakes in a crontab are in `_cron.mistakes`, and what handlers raise in `_model.handler_exceptions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class GraphileError(Exception):
    """The root of all exceptions that trio_graphile raises on purpose."""


class OptionInvalid(GraphileError, ValueError):
    """An option, a job specification or a name has a value that can never work.

    `option` names the field, `reason` says what is wrong and what would be right.
    """

    def __init__(self, option: str, reason: str) -> None:
        super().__init__(option, reason)
        self.option = option
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.option}: {self.reason}"


class DatabaseUrlInvalid(GraphileError):
    """The database URL cannot be understood. The message never shows a password."""


# --- the database -------------------------------------------------------------------------------


class DatabaseError(GraphileError):
    """Something went wrong between us and PostgreSQL.

    `transient` says whether the same call may succeed later although nobody changes anything.
    """

    transient = False

    def __init__(
        self,
        text: str,
        *,
        sqlstate: str | None = None,
        constraint: str | None = None,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.detail = detail
        self.hint = hint


class DatabaseUnavailable(DatabaseError):
    """No session could be opened: the server is down, starting, full, or does not exist."""

    transient = True


class SessionsBusy(DatabaseUnavailable):
    """All sessions of a pool were in use for longer than a caller may wait for one."""


class DatabaseRefused(DatabaseError):
    """The server refused the session: a wrong password, role or database name.

    The refusal is final, unless the same `Database` had a session before (`transient`): then somebody may be
    changing a password, or keeping sessions out for a while.
    """

    def __init__(self, text: str, *, sqlstate: str | None = None, was_let_in: bool = False) -> None:
        super().__init__(text, sqlstate=sqlstate)
        self.was_let_in = was_let_in

    @property
    def transient(self) -> bool:  # type: ignore[override]  # here it depends on what was before
        """True if a session was opened in the same way before."""
        return self.was_let_in


class ConnectionLost(DatabaseError):
    """A session died, or was given up, while a statement was on its way.

    It is unknown whether that statement took effect; after `DatabaseUnavailable` it is known that none did.
    """

    transient = True


class DatabaseClosed(DatabaseError):
    """The block of `open_database` has ended. Code that runs longer needs a database that is open longer."""

    def __init__(self, block: str = "open_database") -> None:
        super().__init__(f"the database is closed: the block of its {block} has ended")
        self.block = block

    def __reduce__(self) -> tuple[type[DatabaseClosed], tuple[str]]:
        return type(self), (self.block,)


class StatementFailed(DatabaseError):
    """The server refused a statement, and nothing of it took effect. `sqlstate` says why."""

    @property
    def transient(self) -> bool:  # type: ignore[override]  # here it depends on the SQLSTATE
        """True for deadlocks, timeouts, exhausted resources, a server going down or read-only."""
        return is_transient(self.sqlstate)


# 57P0x: the server stops, crashed or is starting; 25006: it became a read-only standby.
_TRANSIENT_STATES = frozenset({"40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "25006"})
_TRANSIENT_CLASSES = frozenset({"08", "53", "58"})


def is_transient(sqlstate: str | None) -> bool:
    """Whether a statement that was refused with this SQLSTATE may succeed when it is sent again."""
    return sqlstate is not None and (sqlstate in _TRANSIENT_STATES or sqlstate[:2] in _TRANSIENT_CLASSES)


# --- the schema ---------------------------------------------------------------------------------


class SchemaError(GraphileError):
    """The schema in the database does not fit this version of trio_graphile."""


class SchemaMissing(SchemaError, StatementFailed):
    """The schema is not installed: `await client.migrate()` or `trio-graphile migrate` installs it."""


class SchemaTooOld(SchemaError):
    """The schema is older than the oldest revision that trio_graphile can migrate."""


class SchemaTooNew(SchemaError):
    """Another program installed a breaking revision that this version does not know."""


class PostgresTooOld(SchemaError):
    """The server is older than PostgreSQL 13."""


class MigrationFailed(SchemaError):
    """The schema could not be migrated. The failed step left nothing behind."""


# --- tasks and jobs -----------------------------------------------------------------------------


class UnknownTask(GraphileError):
    """No task is registered under this identifier."""

    def __init__(self, identifier: str) -> None:
        super().__init__(identifier)
        self.identifier = identifier

    def __str__(self) -> str:
        return f"no task {self.identifier!r} is registered"


class DuplicateTask(GraphileError):
    """Two tasks were registered under one identifier."""

    def __init__(self, identifier: str) -> None:
        super().__init__(identifier)
        self.identifier = identifier

    def __str__(self) -> str:
        return f"a task {self.identifier!r} is registered already"


class TaskInvalid(GraphileError, TypeError):
    """A function cannot be the handler of a task; `reason` says what would be right."""

    def __init__(self, identifier: str, reason: str) -> None:
        super().__init__(identifier, reason)
        self.identifier = identifier
        self.reason = reason

    def __str__(self) -> str:
        return f"task {self.identifier!r}: {self.reason}"


class PayloadInvalid(GraphileError):
    """A payload does not fit its task, or is not JSON; nothing was added.

    `reasons` has one line for each mistake, each with its path inside the payload (`$` is the root).
    """

    def __init__(self, identifier: str, reasons: Sequence[str]) -> None:
        super().__init__(identifier, tuple(reasons))
        self.identifier = identifier
        self.reasons: tuple[str, ...] = tuple(reasons)

    def __str__(self) -> str:
        return f"payload of task {self.identifier!r}: " + "; ".join(self.reasons)


class JobPayloadInvalid(PayloadInvalid):
    """The payload of a stored job does not fit its task: the handler was not called."""


class DuplicateJobKey(GraphileError):
    """One call adds two jobs under the same key; nothing was added."""

    def __init__(self, job_key: str) -> None:
        super().__init__(job_key)
        self.job_key = job_key

    def __str__(self) -> str:
        return f"the job key {self.job_key!r} stands twice in one call: add them one after the other"


class JobSkipped(GraphileError):
    """An interceptor skipped the job, so nothing was added. The job itself is not wrong."""

    def __init__(self, identifier: str, reason: str) -> None:
        super().__init__(identifier, reason)
        self.identifier = identifier
        self.reason = reason

    def __str__(self) -> str:
        because = f": {self.reason}" if self.reason else ""
        return f"the job for task {self.identifier!r} was skipped by an interceptor{because}"


class JobRefused(GraphileError):
    """An interceptor refused the job, or failed. Nothing was added; of many jobs, none."""

    def __init__(self, identifier: str, reason: str) -> None:
        super().__init__(identifier, reason)
        self.identifier = identifier
        self.reason = reason

    def __str__(self) -> str:
        return f"the job for task {self.identifier!r} was refused: {self.reason}"


# --- what handlers see --------------------------------------------------------------------------


class JobLost(GraphileError):
    """This run cannot complete the job: the job was taken from the worker, or is completed already.

    `reason` says which. Whatever the handler did in the transaction was rolled back.
    """

    def __init__(self, job_id: int, reason: str) -> None:
        super().__init__(job_id, reason)
        self.job_id = job_id
        self.reason = reason

    def __str__(self) -> str:
        return f"this run cannot complete job {self.job_id}: {self.reason}"


class StateMissing(GraphileError, LookupError):
    """The worker's application state has no value of the type `wanted`, or several of them."""

    def __init__(self, wanted: type, reason: str) -> None:
        super().__init__(wanted, reason)
        self.wanted = wanted
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


# --- the worker ---------------------------------------------------------------------------------


class HooksFrozen(GraphileError):
    """A hook was registered after a worker or client was made with these hooks: pass a plugin instead."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind

    def __str__(self) -> str:
        return f"{self.kind}: too late, a worker or client was made with these hooks already"


class WorkerBusy(GraphileError):
    """`run` or `run_once` was called while the worker runs, or after it was stopped."""


class WorkerCrashed(GraphileError):
    """A service of the worker failed. Its jobs were recorded or given back. `__cause__` is the failure."""


class ShutdownIncomplete(GraphileError):
    """The worker ended before it could write the outcomes of all its jobs.

    `job_ids` are the jobs that this worker knows of; they may still be locked under `worker_id`.
    """

    def __init__(self, worker_id: str, job_ids: Sequence[int], reason: str) -> None:
        super().__init__(worker_id, tuple(job_ids), reason)
        self.worker_id = worker_id
        self.job_ids: tuple[int, ...] = tuple(job_ids)
        self.reason = reason

    def __str__(self) -> str:
        jobs = ", ".join(map(str, self.job_ids)) or "none known by id"
        return f"{self.reason}; jobs possibly still locked by {self.worker_id}: {jobs}"


# --- the embedded server ------------------------------------------------------------------------


class EmbeddedPostgresError(GraphileError):
    """The embedded PostgreSQL could not be started or kept running."""


class PostgresNotFound(EmbeddedPostgresError):
    """No PostgreSQL binaries for this platform were found in the places that are searched."""
