"""A durable PostgreSQL job queue for programs that run on Trio, on Graphile Worker's schema."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_graphile._client import Client, JobClient
    from trio_graphile._cron.crontab import format_crontab, parse_crontab
    from trio_graphile._cron.item import CronItem
    from trio_graphile._database.connection import Connection
    from trio_graphile._database.database import Database, open_database
    from trio_graphile._exceptions import (
        ConnectionLost,
        CrontabInvalid,
        CrontabMistake,
        DatabaseClosed,
        DatabaseError,
        DatabaseRefused,
        DatabaseUnavailable,
        DatabaseUrlInvalid,
        DuplicateJobKey,
        DuplicateTask,
        EmbeddedPostgresError,
        GraphileError,
        HooksFrozen,
        JobLost,
        JobPayloadInvalid,
        JobRefused,
        JobSkipped,
        MigrationFailed,
        OptionInvalid,
        PayloadInvalid,
        PermanentFailure,
        PostgresNotFound,
        PostgresTooOld,
        RetryAfter,
        SchemaError,
        SchemaMissing,
        SchemaTooNew,
        SchemaTooOld,
        ShutdownIncomplete,
        Snooze,
        StatementFailed,
        StateMissing,
        TaskInvalid,
        UnknownTask,
        WorkerBusy,
        WorkerCrashed,
    )
    from trio_graphile._model.app_state import State
    from trio_graphile._model.cancellation import CancelledJobs
    from trio_graphile._model.inspection import (
        JobCounts,
        JobFilter,
        JobPage,
        JobState,
        ListedJob,
        QueueStatus,
        TaskStatus,
        WorkerStatus,
    )
    from trio_graphile._model.jobs import (
        AddedJobs,
        ChangedJobs,
        Cleanup,
        Job,
        JobKeyMode,
        JobSpec,
        SkippedJob,
    )
    from trio_graphile._model.options import (
        CronOptions,
        DatabaseOptions,
        LeaseOptions,
        LocalQueueOptions,
        ObserverOptions,
        ProcessOptions,
        RecoveryOptions,
        RefetchDelayOptions,
        ShutdownOptions,
        WorkerOptions,
    )
    from trio_graphile._model.outcomes import AbandonedThread, ShutdownReport, StopCause
    from trio_graphile._model.recovery import ActiveWorker, SweepReport
    from trio_graphile._model.statistics import (
        Backlog,
        ListenState,
        RunningJobStatistics,
        WorkerPhase,
        WorkerStatistics,
    )
    from trio_graphile._model.task_options import TaskOptions
    from trio_graphile._tasks.context import JobContext, current_job
    from trio_graphile._tasks.cron import Cron
    from trio_graphile._tasks.registry import TaskRegistry
    from trio_graphile._tasks.task import Task
    from trio_graphile._worker.setup import WorkerSetup
    from trio_graphile._worker.stop_signals import stop_on_signals
    from trio_graphile._worker.worker import Worker

__all__ = [
    "AbandonedThread",
    "ActiveWorker",
    "AddedJobs",
    "Backlog",
    "CancelledJobs",
    "ChangedJobs",
    "Cleanup",
    "Client",
    "Connection",
    "ConnectionLost",
    "Cron",
    "CronItem",
    "CronOptions",
    "CrontabInvalid",
    "CrontabMistake",
    "Database",
    "DatabaseClosed",
    "DatabaseError",
    "DatabaseOptions",
    "DatabaseRefused",
    "DatabaseUnavailable",
    "DatabaseUrlInvalid",
    "DuplicateJobKey",
    "DuplicateTask",
    "EmbeddedPostgresError",
    "GraphileError",
    "HooksFrozen",
    "Job",
    "JobClient",
    "JobContext",
    "JobCounts",
    "JobFilter",
    "JobKeyMode",
    "JobLost",
    "JobPage",
    "JobPayloadInvalid",
    "JobRefused",
    "JobSkipped",
    "JobSpec",
    "JobState",
    "LeaseOptions",
    "ListedJob",
    "ListenState",
    "LocalQueueOptions",
    "MigrationFailed",
    "ObserverOptions",
    "OptionInvalid",
    "PayloadInvalid",
    "PermanentFailure",
    "PostgresNotFound",
    "PostgresTooOld",
    "ProcessOptions",
    "QueueStatus",
    "RecoveryOptions",
    "RefetchDelayOptions",
    "RetryAfter",
    "RunningJobStatistics",
    "SchemaError",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "ShutdownIncomplete",
    "ShutdownOptions",
    "ShutdownReport",
    "SkippedJob",
    "Snooze",
    "State",
    "StateMissing",
    "StatementFailed",
    "StopCause",
    "SweepReport",
    "Task",
    "TaskInvalid",
    "TaskOptions",
    "TaskRegistry",
    "TaskStatus",
    "UnknownTask",
    "Worker",
    "WorkerBusy",
    "WorkerCrashed",
    "WorkerOptions",
    "WorkerPhase",
    "WorkerSetup",
    "WorkerStatistics",
    "WorkerStatus",
    "current_job",
    "format_crontab",
    "open_database",
    "parse_crontab",
    "stop_on_signals",
]

_MODULES = (
    "_exceptions",
    "_model.cancellation",
    "_model.inspection",
    "_model.jobs",
    "_model.options",
    "_model.outcomes",
    "_model.recovery",
    "_model.app_state",
    "_model.statistics",
    "_model.task_options",
    "_cron.item",
    "_cron.crontab",
    "_database.connection",
    "_database.database",
    "_client",
    "_tasks.context",
    "_tasks.cron",
    "_tasks.task",
    "_tasks.registry",
    "_worker.setup",
    "_worker.stop_signals",
    "_worker.worker",
)
"""Those that are imported from above, the lowest layers first."""

if not TYPE_CHECKING:
    # Imported when first asked for: `trio-graphile --help` would otherwise wait for asyncpg and all the rest.

    def __getattr__(name: str) -> object:
        if name in __all__:
            for module in _MODULES:
                home = importlib.import_module(f"trio_graphile.{module}")
                if hasattr(home, name):
                    globals()[name] = getattr(home, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
