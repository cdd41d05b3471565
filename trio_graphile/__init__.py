"""A durable PostgreSQL job queue for programs that run on Trio, on Graphile Worker's schema."""

from __future__ import annotations

from trio_graphile._client import Client, JobClient
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database, open_database
from trio_graphile._exceptions import (
    ConnectionLost,
    DatabaseError,
    DatabaseRefused,
    DatabaseUnavailable,
    DatabaseUrlInvalid,
    DuplicateJobKey,
    DuplicateTask,
    EmbeddedPostgresError,
    GraphileError,
    JobPayloadInvalid,
    MigrationFailed,
    OptionInvalid,
    PayloadInvalid,
    PostgresNotFound,
    PostgresTooOld,
    SchemaError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    ShutdownIncomplete,
    StatementFailed,
    TaskInvalid,
    UnknownTask,
    WorkerBusy,
    WorkerCrashed,
)
from trio_graphile._model.jobs import ChangedJobs, Cleanup, Job, JobKeyMode, JobSpec
from trio_graphile._model.options import (
    DatabaseOptions,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    RefetchDelayOptions,
    ShutdownOptions,
    WorkerOptions,
)
from trio_graphile._model.outcomes import ShutdownReport, StopCause
from trio_graphile._model.recovery import ActiveWorker, SweepReport
from trio_graphile._tasks import JobContext, Task, TaskRegistry
from trio_graphile._worker.signals import stop_on_signals
from trio_graphile._worker.worker import Worker

__all__ = [
    "ActiveWorker",
    "ChangedJobs",
    "Cleanup",
    "Client",
    "Connection",
    "ConnectionLost",
    "Database",
    "DatabaseError",
    "DatabaseOptions",
    "DatabaseRefused",
    "DatabaseUnavailable",
    "DatabaseUrlInvalid",
    "DuplicateJobKey",
    "DuplicateTask",
    "EmbeddedPostgresError",
    "GraphileError",
    "Job",
    "JobClient",
    "JobContext",
    "JobKeyMode",
    "JobPayloadInvalid",
    "JobSpec",
    "LeaseOptions",
    "LocalQueueOptions",
    "MigrationFailed",
    "OptionInvalid",
    "PayloadInvalid",
    "PostgresNotFound",
    "PostgresTooOld",
    "RecoveryOptions",
    "RefetchDelayOptions",
    "SchemaError",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "ShutdownIncomplete",
    "ShutdownOptions",
    "ShutdownReport",
    "StatementFailed",
    "StopCause",
    "SweepReport",
    "Task",
    "TaskInvalid",
    "TaskRegistry",
    "UnknownTask",
    "Worker",
    "WorkerBusy",
    "WorkerCrashed",
    "WorkerOptions",
    "open_database",
    "stop_on_signals",
]
