"""Added jobs: what waits in the queue, with typed payloads, and how it differs from what a test expects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import attrs

from trio_graphile._client import Client
from trio_graphile._client_reading import ReadingClient
from trio_graphile._database.database import Database
from trio_graphile._model.counted import counted
from trio_graphile._model.inspection import JobFilter
from trio_graphile._model.jobs import Job, JobSpec, check_task
from trio_graphile._model.json import decode, encode
from trio_graphile._model.validators import check_kind
from trio_graphile._tasks.task import Task

PayloadT = TypeVar("PayloadT")

PAGE_SIZE = 1000  # jobs
_MOST_SHOWN = 5
"""How many jobs a difference shows, those that differ least."""
_NOTHING = object()


@attrs.frozen(kw_only=True)
class WaitingJob(Generic[PayloadT]):
    """A job that waits to be run, now or later."""

    payload: PayloadT
    """The payload, of the task's type."""
    job: Job
    """The row."""


@overload
async def added_jobs(where: ReadingClient | Database, task: Task[PayloadT]) -> list[WaitingJob[PayloadT]]: ...
@overload
async def added_jobs(where: ReadingClient | Database, task: str | None = None) -> list[WaitingJob[Any]]: ...
async def added_jobs(
    where: ReadingClient | Database, task: Task[Any] | str | None = None
) -> list[WaitingJob[Any]]:
    """Return the jobs that wait, now or until later, in the order in which they were added.

    With a task, only its jobs, with payloads of its type. By an identifier, or without a task, payloads are
    plain JSON values. `Client.using(connection)` also sees what an open transaction has added. Raises
    `JobPayloadInvalid` for a payload that is not of the task's type.
    """
    if task is not None and not isinstance(task, str):
        check_task(task)
    client = Client(where) if isinstance(where, Database) else where
    check_kind("where", client, ReadingClient, "Client(database)")
    identifier = task.identifier if isinstance(task, Task) else task
    which: JobFilter | None = JobFilter(task_identifier=identifier, limit=PAGE_SIZE)
    found: list[WaitingJob[Any]] = []
    while which is not None:
        page = await client.jobs(which)
        jobs = [listed.job for listed in page.jobs if listed.is_available]
        found += [WaitingJob(payload=_payload_of(job, task), job=job) for job in jobs]
        which = page.next
    return found


@overload
async def assert_added(
    where: ReadingClient | Database,
    task: Task[PayloadT],
    payload: PayloadT,
    spec: JobSpec | None = None,
) -> WaitingJob[PayloadT]: ...
@overload
async def assert_added(
    where: ReadingClient | Database, task: str, payload: Any, spec: JobSpec | None = None
) -> WaitingJob[Any]: ...
async def assert_added(
    where: ReadingClient | Database, task: Task[Any] | str, payload: Any, spec: JobSpec | None = None
) -> WaitingJob[Any]:
    """Return the first waiting job of a task with this payload; else fail, and say what is different.

    Of `spec` only what is given counts: `JobSpec(queue_name="mail")` asks for the queue alone.
    """
    __tracebackhide__ = True
    if spec is not None:
        check_kind("spec", spec, JobSpec, "JobSpec(priority=1)")
    waiting = await added_jobs(where, task)
    differences = [list(_differences(task, payload, spec, each)) for each in waiting]
    for each, different in zip(waiting, differences, strict=True):
        if not different:
            return each
    identifier = task if isinstance(task, str) else task.identifier
    if waiting:
        raise AssertionError(_report(identifier, waiting, differences))
    others = Counter(each.job.task_identifier for each in await added_jobs(where))
    shown = ", ".join(f"{name} ({count})" for name, count in others.most_common()) or "none at all"
    raise AssertionError(f"no job of {identifier!r} waits; those that wait: {shown}")


def _payload_of(job: Job, task: Task[Any] | str | None) -> Any:
    return task.from_json(job.payload_json) if isinstance(task, Task) else job.payload


def _json_of(payload: Any, task: Task[Any] | str) -> Any:
    """Return a payload as plain JSON values, in which every default is filled in."""
    if isinstance(task, str):
        return decode(encode(payload))
    return decode(task.to_json(task.from_json(task.to_json(payload))))


def _differences(
    task: Task[Any] | str, payload: Any, spec: JobSpec | None, waiting: WaitingJob[Any]
) -> Iterator[str]:
    """Yield a line for each place in which a waiting job differs from the expected one."""
    expected, found = _json_of(payload, task), _json_of(waiting.payload, task)
    yield from _different_places("payload", expected, found)
    if spec is None:
        return
    for name in ("queue_name", "run_at", "max_attempts", "job_key", "priority", "flags"):
        wanted = getattr(spec, name)
        is_there: Any = getattr(waiting.job, "key" if name == "job_key" else name)
        if name == "flags" and wanted is not None:
            wanted, is_there = sorted(set(wanted)), sorted(is_there)
        if wanted is not None and wanted != is_there:
            yield f"{name}: expected {wanted!r}, found {is_there!r}"


def _different_places(place: str, expected: Any, found: Any) -> Iterator[str]:
    """Yield a line for each different place of two JSON values."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected | found:
            yield from _different_places(
                f"{place}.{key}", expected.get(key, _NOTHING), found.get(key, _NOTHING)
            )
    elif isinstance(expected, list) and isinstance(found, list):
        for index in range(max(len(expected), len(found))):
            yield from _different_places(f"{place}[{index}]", _at(expected, index), _at(found, index))
    elif expected is _NOTHING or found is _NOTHING or encode(expected) != encode(found):
        yield f"{place}: expected {_shown(expected)}, found {_shown(found)}"


def _at(values: Sequence[Any], index: int) -> Any:
    return values[index] if index < len(values) else _NOTHING


def _shown(value: Any) -> str:
    return "nothing" if value is _NOTHING else repr(value)


def _report(identifier: str, waiting: Sequence[WaitingJob[Any]], differences: Sequence[Sequence[str]]) -> str:
    """Return the text about jobs that are all different from the expected one, the least different first."""
    nearest = sorted(zip(differences, waiting, strict=True), key=lambda pair: len(pair[0]))
    lines = [f"no job of {identifier!r} waits that is as expected"]
    for different, each in nearest[:_MOST_SHOWN]:
        lines += [f"  job {each.job.id}:", *(f"    {line}" for line in different)]
    if len(nearest) > _MOST_SHOWN:
        lines.append(f"  and {counted(len(nearest) - _MOST_SHOWN, 'other')}")
    return "\n".join(lines)
