"""A durable PostgreSQL job queue for programs that run on Trio, on Graphile Worker's schema."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Otherwise each name would get an import statement of its own.
    # isort: off
    from trio_graphile._client import Client as Client
    from trio_graphile._job_client import JobClient as JobClient
    from trio_graphile._cron.crontab import format_crontab as format_crontab, parse_crontab as parse_crontab
    from trio_graphile._cron.item import CronItem as CronItem
    from trio_graphile._cron.mistakes import (
        CrontabInvalid as CrontabInvalid,
        CrontabMistake as CrontabMistake,
    )
    from trio_graphile._database.connection import Connection as Connection
    from trio_graphile._database.database import Database as Database, open_database as open_database
    from trio_graphile._exceptions import (
        ConnectionLost as ConnectionLost,
        DatabaseClosed as DatabaseClosed,
        DatabaseError as DatabaseError,
        DatabaseRefused as DatabaseRefused,
        DatabaseUnavailable as DatabaseUnavailable,
        DatabaseUrlInvalid as DatabaseUrlInvalid,
        DuplicateJobKey as DuplicateJobKey,
        DuplicateTask as DuplicateTask,
        EmbeddedPostgresError as EmbeddedPostgresError,
        GraphileError as GraphileError,
        HooksFrozen as HooksFrozen,
        JobLost as JobLost,
        JobPayloadInvalid as JobPayloadInvalid,
        JobRefused as JobRefused,
        JobSkipped as JobSkipped,
        MigrationFailed as MigrationFailed,
        OptionInvalid as OptionInvalid,
        PayloadInvalid as PayloadInvalid,
        PostgresNotFound as PostgresNotFound,
        PostgresTooOld as PostgresTooOld,
        SchemaError as SchemaError,
        SchemaMissing as SchemaMissing,
        SchemaTooNew as SchemaTooNew,
        SchemaTooOld as SchemaTooOld,
        ShutdownIncomplete as ShutdownIncomplete,
        StatementFailed as StatementFailed,
        StateMissing as StateMissing,
        TaskInvalid as TaskInvalid,
        UnknownTask as UnknownTask,
        WorkerBusy as WorkerBusy,
        WorkerCrashed as WorkerCrashed,
    )
    from trio_graphile._model.app_state import State as State
    from trio_graphile._model.cancellation import CancelledJobs as CancelledJobs
    from trio_graphile._model.handler_exceptions import (
        PermanentFailure as PermanentFailure,
        RetryAfter as RetryAfter,
        Snooze as Snooze,
    )
    from trio_graphile._model.inspection import (
        JobCounts as JobCounts,
        JobFilter as JobFilter,
        JobPage as JobPage,
        JobState as JobState,
        ListedJob as ListedJob,
        QueueStatus as QueueStatus,
        TaskStatus as TaskStatus,
        WorkerStatus as WorkerStatus,
    )
    from trio_graphile._model.jobs import (
        AddedJobs as AddedJobs,
        ChangedJobs as ChangedJobs,
        Cleanup as Cleanup,
        Job as Job,
        JobKeyMode as JobKeyMode,
        JobSpec as JobSpec,
        SkippedJob as SkippedJob,
    )
    from trio_graphile._model.options import (
        CronOptions as CronOptions,
        DatabaseOptions as DatabaseOptions,
        LeaseOptions as LeaseOptions,
        LocalQueueOptions as LocalQueueOptions,
        ObserverOptions as ObserverOptions,
        PresenceOptions as PresenceOptions,
        ProcessOptions as ProcessOptions,
        RecoveryOptions as RecoveryOptions,
        RefetchDelayOptions as RefetchDelayOptions,
        ShutdownOptions as ShutdownOptions,
        WorkerOptions as WorkerOptions,
    )
    from trio_graphile._model.outcomes import (
        AbandonedThread as AbandonedThread,
        ShutdownReport as ShutdownReport,
        StopCause as StopCause,
    )
    from trio_graphile._model.recovery import ActiveWorker as ActiveWorker, SweepReport as SweepReport
    from trio_graphile._model.statistics import (
        Backlog as Backlog,
        ListenState as ListenState,
        RunningJobStatistics as RunningJobStatistics,
        WorkerPhase as WorkerPhase,
        WorkerStatistics as WorkerStatistics,
    )
    from trio_graphile._model.task_options import TaskOptions as TaskOptions
    from trio_graphile._tasks.context import JobContext as JobContext, current_job as current_job
    from trio_graphile._tasks.cron import Cron as Cron
    from trio_graphile._tasks.registry import TaskRegistry as TaskRegistry
    from trio_graphile._tasks.task import Task as Task
    from trio_graphile._worker.setup import WorkerSetup as WorkerSetup
    from trio_graphile._worker.stop_signals import stop_on_signals as stop_on_signals
    from trio_graphile._worker.worker import Worker as Worker
    # isort: on
else:
    # A name is imported when it is first asked for: `trio-graphile --help` would otherwise wait for asyncpg
    # and for all the rest. Type checkers read the imports above, and a test compares them with this table.
    _HOMES = {
        "AbandonedThread": "_model.outcomes",
        "ActiveWorker": "_model.recovery",
        "AddedJobs": "_model.jobs",
        "Backlog": "_model.statistics",
        "CancelledJobs": "_model.cancellation",
        "ChangedJobs": "_model.jobs",
        "Cleanup": "_model.jobs",
        "Client": "_client",
        "Connection": "_database.connection",
        "ConnectionLost": "_exceptions",
        "Cron": "_tasks.cron",
        "CronItem": "_cron.item",
        "CronOptions": "_model.options",
        "CrontabInvalid": "_cron.mistakes",
        "CrontabMistake": "_cron.mistakes",
        "Database": "_database.database",
        "DatabaseClosed": "_exceptions",
        "DatabaseError": "_exceptions",
        "DatabaseOptions": "_model.options",
        "DatabaseRefused": "_exceptions",
        "DatabaseUnavailable": "_exceptions",
        "DatabaseUrlInvalid": "_exceptions",
        "DuplicateJobKey": "_exceptions",
        "DuplicateTask": "_exceptions",
        "EmbeddedPostgresError": "_exceptions",
        "GraphileError": "_exceptions",
        "HooksFrozen": "_exceptions",
        "Job": "_model.jobs",
        "JobClient": "_job_client",
        "JobContext": "_tasks.context",
        "JobCounts": "_model.inspection",
        "JobFilter": "_model.inspection",
        "JobKeyMode": "_model.jobs",
        "JobLost": "_exceptions",
        "JobPage": "_model.inspection",
        "JobPayloadInvalid": "_exceptions",
        "JobRefused": "_exceptions",
        "JobSkipped": "_exceptions",
        "JobSpec": "_model.jobs",
        "JobState": "_model.inspection",
        "LeaseOptions": "_model.options",
        "ListedJob": "_model.inspection",
        "ListenState": "_model.statistics",
        "LocalQueueOptions": "_model.options",
        "MigrationFailed": "_exceptions",
        "ObserverOptions": "_model.options",
        "OptionInvalid": "_exceptions",
        "PayloadInvalid": "_exceptions",
        "PermanentFailure": "_model.handler_exceptions",
        "PostgresNotFound": "_exceptions",
        "PostgresTooOld": "_exceptions",
        "PresenceOptions": "_model.options",
        "ProcessOptions": "_model.options",
        "QueueStatus": "_model.inspection",
        "RecoveryOptions": "_model.options",
        "RefetchDelayOptions": "_model.options",
        "RetryAfter": "_model.handler_exceptions",
        "RunningJobStatistics": "_model.statistics",
        "SchemaError": "_exceptions",
        "SchemaMissing": "_exceptions",
        "SchemaTooNew": "_exceptions",
        "SchemaTooOld": "_exceptions",
        "ShutdownIncomplete": "_exceptions",
        "ShutdownOptions": "_model.options",
        "ShutdownReport": "_model.outcomes",
        "SkippedJob": "_model.jobs",
        "Snooze": "_model.handler_exceptions",
        "State": "_model.app_state",
        "StateMissing": "_exceptions",
        "StatementFailed": "_exceptions",
        "StopCause": "_model.outcomes",
        "SweepReport": "_model.recovery",
        "Task": "_tasks.task",
        "TaskInvalid": "_exceptions",
        "TaskOptions": "_model.task_options",
        "TaskRegistry": "_tasks.registry",
        "TaskStatus": "_model.inspection",
        "UnknownTask": "_exceptions",
        "Worker": "_worker.worker",
        "WorkerBusy": "_exceptions",
        "WorkerCrashed": "_exceptions",
        "WorkerOptions": "_model.options",
        "WorkerPhase": "_model.statistics",
        "WorkerSetup": "_worker.setup",
        "WorkerStatistics": "_model.statistics",
        "WorkerStatus": "_model.inspection",
        "current_job": "_tasks.context",
        "format_crontab": "_cron.crontab",
        "open_database": "_database.database",
        "parse_crontab": "_cron.crontab",
        "stop_on_signals": "_worker.stop_signals",
    }
    __all__ = list(_HOMES)

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
