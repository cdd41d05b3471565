"""The queue at a glance, and lists of its contents. Each reads a bounded number of rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trio_graphile._database.summaries.counts import count_states
from trio_graphile._database.summaries.failures import group_failures
from trio_graphile._database.summaries.queues import summarize_queues
from trio_graphile._database.summaries.tasks import summarize_tasks
from trio_graphile._model.listing import (
    Count,
    QueueSummary,
)
from trio_graphile.admin._context import Context
from trio_graphile.admin._operations.answers import (
    CountName,
    FailureAnswer,
    FailuresAnswer,
    OverviewAnswer,
    QueueAnswer,
    QueuesAnswer,
    StatsAnswer,
    TaskAnswer,
    TasksAnswer,
)
from trio_graphile.admin._operations.requests import FailuresRequest, PageRequest, SearchRequest
from trio_graphile.admin._operations.workers import list_registered, list_workers

_STATES: tuple[CountName, ...] = ("total", "ready", "scheduled", "locked", "failed")
_FIRST_QUEUES = 200  # on the overview


async def look_over(context: Context) -> OverviewAnswer:
    """Return the queue at a glance."""
    counts = await count_states(context.database)
    queues = await summarize_queues(context.database, None, _FIRST_QUEUES)
    workers = await list_workers(context)
    return OverviewAnswer(
        stats=StatsAnswer(**{name: getattr(counts, name).value for name in _STATES}),
        queues=[_queue(queue) for queue in queues.queues],
        workers=workers.workers,
        active_workers=workers.active_workers,
        estimated=[name for name in _STATES if getattr(counts, name).is_estimate],
        counted_at=counts.counted_at,
        oldest_ready_at=counts.oldest_ready_at,
        queues_next=queues.next,
    )


async def list_queues(context: Context, request: SearchRequest) -> QueuesAnswer:
    """Return a page of named queues."""
    found = await summarize_queues(
        context.database, request.after, request.limit, search=request.search or None
    )
    return QueuesAnswer(queues=[_queue(queue) for queue in found.queues], next=found.next)


def _queue(queue: QueueSummary) -> QueueAnswer:
    counts = {"job_count": queue.jobs, "ready_count": queue.ready}
    same = ("id", "queue_name", "locked_at", "locked_by", "head_id", "head_task_identifier", "waiting_since")
    return QueueAnswer(**_counted(counts), **{name: getattr(queue, name) for name in same})


def _counted(counts: dict[str, Count]) -> dict[str, Any]:
    values = {name: count.value for name, count in counts.items()}
    return values | {"estimated": [name for name, count in counts.items() if count.is_estimate]}


async def list_tasks(context: Context, request: PageRequest) -> TasksAnswer:
    """Return a page of the tasks that the database knows."""
    found = await summarize_tasks(context.database, request.after, request.limit)
    workers = Counter(
        task
        for worker in await list_registered(context)
        if not worker.is_stale
        for task in worker.tasks or ()
    )
    known = None if context.client.tasks is None else frozenset(context.client.tasks.identifiers)
    return TasksAnswer(
        tasks=[
            TaskAnswer(
                id=task.id,
                task_identifier=task.identifier,
                **_counted({name: getattr(task, name) for name in ("ready", "scheduled", "failed")}),
                oldest_ready_at=task.oldest_ready_at,
                workers=workers[task.identifier],
                is_known_here=None if known is None else task.identifier in known,
            )
            for task in found.tasks
        ],
        next=found.next,
    )


async def list_failures(context: Context, request: FailuresRequest) -> FailuresAnswer:
    """Return groups of failed jobs, the largest first."""
    identifiers = [identifier for identifier in request.identifier if identifier]
    groups = await group_failures(context.database, identifiers, request.limit)
    return FailuresAnswer(
        groups=[
            FailureAnswer(
                error=group.error,
                task_identifier=group.task_identifier,
                count=group.count.value,
                is_estimate=group.count.is_estimate,
                latest_at=group.latest_at,
                example_id=group.example_id,
            )
            for group in groups
        ]
    )
