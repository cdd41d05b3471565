"""`trio-graphile stats`, `queues`, `tasks` and `cleanup`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import attrs
from cyclopts import Parameter

from trio_graphile._model.inspection import QueueStatus, TaskStatus, WorkerStatus
from trio_graphile._model.jobs import Cleanup
from trio_graphile.cli._connect import open_client
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags
from trio_graphile.cli._output import print_json, print_table
from trio_graphile.cli._program import program


async def stats(*, common: CommonFlags = NOTHING_GIVEN) -> None:
    """Count all jobs by state."""
    async with open_client(common) as client:
        backlog = await client.backlog()
    states = {
        "ready": backlog.ready,
        "scheduled": backlog.scheduled,
        "locked": backlog.locked,
        "failed": backlog.failed,
    }
    counts = {"total": sum(states.values()), **states}
    if common.as_json:
        print_json(counts)
    else:
        print_table(("state", "jobs"), counts.items())


async def queues(*, common: CommonFlags = NOTHING_GIVEN) -> None:
    """List the named queues, by name."""
    async with open_client(common) as client:
        found = await client.queues()
    if common.as_json:
        print_json(found)
    else:
        print_table(
            ("id", "queue", "jobs", "ready", "locked_by", "locked_at"), [_queue_row(queue) for queue in found]
        )


def _queue_row(queue: QueueStatus) -> list[object]:
    counts: list[object] = [queue.job_count, queue.ready_count]
    return [queue.id, queue.queue_name, *counts, queue.locked_by, queue.locked_at]


async def tasks(*, common: CommonFlags = NOTHING_GIVEN) -> None:
    """List the tasks that the database knows, with their jobs by state and their live workers."""
    async with open_client(common) as client:
        found = await client.known_tasks()
        workers = _workers_of_tasks(await client.workers())
    if common.as_json:
        print_json([_task_as_json(task, workers[task.identifier]) for task in found])
    else:
        columns = ("id", "task", "jobs", "ready", "scheduled", "locked", "failed", "oldest_ready", "workers")
        print_table(columns, [_task_row(task, workers[task.identifier]) for task in found])


def _workers_of_tasks(workers: Sequence[WorkerStatus]) -> Counter[str]:
    """Return how many live workers advertise each task; workers of other kinds advertise none."""
    registered = [worker.registration for worker in workers if worker.registration is not None]
    return Counter(task for worker in registered if not worker.is_stale for task in worker.tasks or ())


def _task_as_json(task: TaskStatus, workers: int) -> dict[str, object]:
    names = {"id": task.id, "task_identifier": task.identifier, **attrs.asdict(task.counts)}
    return {**names, "oldest_ready_at": task.oldest_ready_at, "workers": workers}


def _task_row(task: TaskStatus, workers: int) -> list[object]:
    return [task.id, task.identifier, *attrs.astuple(task.counts), task.oldest_ready_at, workers]


_Kind: TypeAlias = Literal["delete-permanently-failed-jobs", "gc-task-identifiers", "gc-job-queues"]


async def cleanup(
    *kinds: _Kind,
    keep_task: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = (),
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Delete rows that are no longer needed; without an argument, explain which.

    Args:
        kinds: What to delete, in this order: jobs without an attempt left, tasks without a job or a live
            worker, queues without a job.
        keep_task: A task to keep although it has no job; may be given several times. Tasks of live workers
            are always kept.
    """
    if not kinds:
        program.help_print(["cleanup"])
        raise UsageError("nothing was deleted: say what is to be")
    chosen = [Cleanup(kind.replace("-", "_")) for kind in kinds]
    async with open_client(common) as client:
        deleted = await client.cleanup(chosen, keep_tasks=keep_task)
    if common.as_json:
        print_json({"cleanup_tasks": _pascal(chosen), "deleted": [deleted[kind] for kind in chosen]})
    else:
        print_table(
            ("cleanup", "deleted"), [(kind.value.replace("_", "-"), deleted[kind]) for kind in chosen]
        )


def _pascal(kinds: Sequence[Cleanup]) -> list[str]:
    return [kind.value.title().replace("_", "") for kind in kinds]
