"""`trio-graphile add`, `list` and `show`."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
from cyclopts import Parameter

from trio_graphile._exceptions import GraphileError
from trio_graphile._model.inspection import JobFilter, JobState, ListedJob
from trio_graphile._model.job_json import shown_change, shown_job
from trio_graphile._model.jobs import JobKeyMode, JobSpec, check_identifier
from trio_graphile._model.json import decode
from trio_graphile.cli._connect import open_client
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags
from trio_graphile.cli._output import as_text, print_json, print_table
from trio_graphile.cli._streams import harmless
from trio_graphile.cli._values import NOW, Time

_MODES = {
    "replace": JobKeyMode.REPLACE,
    "preserve-run-at": JobKeyMode.PRESERVE_RUN_AT,
    "unsafe-dedupe": JobKeyMode.UNSAFE_DEDUPE,
}


async def add(
    task: str,
    /,
    *,
    payload: str | None = None,
    payload_file: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    queue: str | None = None,
    run_at: Time | None = None,
    max_attempts: int | None = None,
    key: str | None = None,
    job_key_mode: Literal["replace", "preserve-run-at", "unsafe-dedupe"] | None = None,
    priority: int | None = None,
    flag: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = (),
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Add a job.

    Args:
        task: The identifier of the task.
        payload: The payload, as JSON. Defaults to {}.
        payload_file: A file with the payload; - reads standard input.
        queue: The named queue, whose jobs run one after the other.
        run_at: The job runs at this time at the earliest.
        max_attempts: How many attempts the job has. Defaults to 25.
        key: The key, which at most one job has; a job that waits under it is replaced.
        job_key_mode: What happens to the job that has the key already.
        priority: Lower numbers run first. Defaults to 0.
        flag: A label by which workers can refuse the job; may be given several times.
    """
    if job_key_mode is not None and key is None:
        raise UsageError("--job-key-mode says what is done to the job under a key: give --key, too")
    check_identifier(task)
    spec = JobSpec(
        queue_name=queue,
        run_at=None if run_at == NOW else run_at,
        max_attempts=max_attempts,
        job_key=key,
        job_key_mode=_MODES[job_key_mode or "replace"],
        priority=priority,
        flags=flag or None,
    )
    value = _payload(payload, payload_file)
    async with open_client(common) as client, client.database.transaction() as connection:
        using = client.using(connection)
        job = await using.add_raw_job(task, value, spec)
        seen = await using.job(job.id)
    if common.as_json:
        print_json(shown_change(job, seen))
    else:
        print(harmless(f"added job {job.id} of task {job.task_identifier}"))


def _payload(text: str | None, file: Path | None) -> Any:
    if text is not None and file is not None:
        raise UsageError("--payload and --payload-file exclude each other")
    name = "--payload"
    if file is not None:
        name, text = str(file), _read(file)
    if text is None:
        return None
    try:
        return decode(text)
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deeply") from None


def _read(file: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return content.decode("utf-8-sig")  # files of Windows may begin with a mark
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


_COLUMNS = ("id", "task", "queue", "state", "run_at", "attempts", "priority", "key", "locked_by")


async def list_jobs(
    *,
    identifier: str | None = None,
    queue: str | None = None,
    state: Literal["all", "ready", "scheduled", "locked", "failed"] = "all",
    key: str | None = None,
    flag: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = (),
    locked_by: str | None = None,
    after: int | None = None,
    limit: int = 50,
    offset: int = 0,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """List jobs, by id.

    Args:
        identifier: Only jobs of this task.
        queue: Only jobs of this named queue.
        state: Only jobs in this state.
        key: Only the job with this key.
        flag: Only jobs with this flag; if it is given several times, a job needs all of them.
        locked_by: Only jobs that this worker has locked.
        after: Only jobs with a higher id: the last id of a page gives the next page.
        limit: How many jobs to list at most.
        offset: How many jobs to skip.
    """
    which = JobFilter(
        task_identifier=identifier,
        queue_name=queue,
        state=None if state == "all" else JobState(state),
        key=key,
        flags=flag,
        locked_by=locked_by,
        after=after,
        limit=limit,
        offset=offset,
    )
    async with open_client(common) as client:
        page = await client.jobs(which)
    if common.as_json:
        print_json([shown_job(listed) for listed in page.jobs])
    else:
        print_table(_COLUMNS, [_row(listed) for listed in page.jobs])


def _row(listed: ListedJob) -> list[object]:
    job = listed.job
    attempts = f"{job.attempts}/{job.max_attempts}"
    names = [job.id, job.task_identifier, job.queue_name, listed.state.value]
    return [*names, job.run_at, attempts, job.priority, job.key, job.locked_by]


async def show(job_id: int, /, *, common: CommonFlags = NOTHING_GIVEN) -> None:
    """Show everything about one job.

    Args:
        job_id: Its id.
    """
    async with open_client(common) as client:
        listed = await client.job(job_id)
    if listed is None:
        raise GraphileError(f"there is no job {job_id}: it was completed, removed, or never added")
    if common.as_json:
        print_json(shown_job(listed))
    else:
        print(harmless("\n".join(_describe(listed))))


def _describe(listed: ListedJob) -> Iterator[str]:
    for name, value in attrs.asdict(shown_job(listed), recurse=False).items():
        if name != "payload":
            yield f"{name}: {as_text(value)}"
    yield "payload:"
    yield textwrap.indent(_indented(listed.job.payload_json), "    ")


_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


def _indented(text: str) -> str:
    """Return JSON text with line breaks and indents, numbers as they are written, at any depth."""
    written: list[str] = []
    depth, before = 0, ""
    for part in _PARTS.findall(text):
        if part in "]}":
            depth -= 1
        is_first = before in ("[", "{")
        if before == "," or (is_first and part not in "]}") or (not is_first and part in "]}"):
            written.append("\n" + "  " * depth)
        written.append(json.dumps(json.loads(part), ensure_ascii=False) if part[0] == '"' else part)
        if part == ":":
            written.append(" ")
        depth += part in "[{"
        before = part
    return "".join(written)
