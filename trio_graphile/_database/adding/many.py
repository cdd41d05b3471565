"""Many jobs at once: in few statements, and in one transaction if more than one is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import attrs
import trio

from trio_graphile._database.adding.answer import Answer
from trio_graphile._database.adding.mixed import add_jobs, add_keyed_jobs
from trio_graphile._database.adding.plain import add_alike_jobs, are_alike
from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.database import Database
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import DuplicateJobKey, OptionInvalid
from trio_graphile._model.groups import leaves
from trio_graphile._model.jobs import AddedJobs, Job, JobKeyMode, NewJob

T = TypeVar("T")

_MOST_JOBS = 2_000
"""How many jobs one statement adds. More are split, inside a transaction."""
_MOST_CHARACTERS = 32_000_000
"""How many characters the payloads of one statement have together, unless one payload alone has more.

PostgreSQL accepts no value of a gigabyte.
"""


@attrs.define
class _Batch:
    """Jobs that one statement can add."""

    preserve_run_at: bool
    positions: list[int] = attrs.field(factory=list)
    """Their positions among the given jobs."""
    new_jobs: list[NewJob] = attrs.field(factory=list)
    size: int = 0
    """The number of characters of their payloads."""


async def add_many(
    executor: Database | Connection, jobs: Sequence[T], make: Callable[[T], NewJob]
) -> AddedJobs:
    """Add the jobs that `make` makes, all or none.

    Raises `DuplicateJobKey`, `OptionInvalid`, and what `make` raises.
    """
    if len(jobs) > _MOST_JOBS:
        async with brief_transaction(executor) as connection:
            return AddedJobs(len(jobs), tuple(await _add_in_chunks(connection, jobs, make)))
    batches = _batches(map(make, jobs), set())
    if len(batches) <= 1:
        return AddedJobs(len(jobs), (await _send(executor, batches),))
    async with brief_transaction(executor) as connection:
        return AddedJobs(len(jobs), (await _send(connection, batches),))


async def _add_in_chunks(
    connection: Connection, jobs: Sequence[T], make: Callable[[T], NewJob]
) -> list[Answer]:
    """Add many jobs in an open transaction; while the database adds some, the next are prepared."""
    answers: list[Answer] = []
    keys: set[str] = set()
    chunks = [jobs[start : start + _MOST_JOBS] for start in range(0, len(jobs), _MOST_JOBS)]
    ready = _batches(map(make, chunks[0]), keys)

    async def make_ready(chunk: Sequence[T]) -> None:
        nonlocal ready
        await trio.lowlevel.checkpoint()  # sends the others first, so that the database does not wait
        ready = _batches(map(make, chunk), keys)

    try:
        for following in (*chunks[1:], ()):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(make_ready, following)
                answers.append(await _send(connection, ready))
    except BaseExceptionGroup as group:
        errors = list(leaves(group))
        raise (errors[0] if len(errors) == 1 else group) from None  # the two Trio tasks stay ours
    return answers


def _batches(new_jobs: Iterable[NewJob], keys: set[str]) -> list[_Batch]:
    """Return the batches that add all jobs. `keys` are those of the jobs before; this adds theirs."""
    batches: list[_Batch] = []
    by_mode: dict[bool, _Batch] = {}
    for position, new_job in enumerate(new_jobs):
        key, mode = new_job.spec.job_key, new_job.spec.job_key_mode
        if mode is JobKeyMode.UNSAFE_DEDUPE:
            raise OptionInvalid(
                "job_key_mode", "unsafe_dedupe cannot be used to add many jobs, only with add_job"
            )
        if key is not None and key in keys:
            raise DuplicateJobKey(key)
        if key is not None:
            keys.add(key)
        preserve_run_at = mode is JobKeyMode.PRESERVE_RUN_AT and key is not None
        size = len(new_job.payload_json)
        batch = by_mode.get(preserve_run_at)
        if batch is None or batch.size + size > _MOST_CHARACTERS:
            batch = by_mode[preserve_run_at] = _Batch(preserve_run_at)
            batches.append(batch)
        batch.size += size
        batch.positions.append(position)
        batch.new_jobs.append(new_job)
    return batches


async def _send(executor: Database | Connection, batches: Sequence[_Batch]) -> Answer:
    answers = [await _send_one(executor, batch) for batch in batches]
    return answers[0] if len(answers) == 1 else partial(_in_order, batches, answers)


async def _send_one(executor: Database | Connection, batch: _Batch) -> Answer:
    if are_alike(batch.new_jobs) and (answer := await add_alike_jobs(executor, batch.new_jobs)) is not None:
        return answer
    if all(new_job.spec.job_key is not None for new_job in batch.new_jobs):
        return await add_keyed_jobs(executor, batch.new_jobs, preserve_run_at=batch.preserve_run_at)
    async with brief_transaction(executor) as connection:  # if it is refused, nothing stays
        return await add_jobs(connection, batch.new_jobs, preserve_run_at=batch.preserve_run_at)


def _in_order(batches: Sequence[_Batch], answers: Sequence[Answer]) -> list[Job]:
    """Return the jobs of several batches in the order in which they were given."""
    added: dict[int, Job] = {}
    for batch, answer in zip(batches, answers, strict=True):
        added.update(zip(batch.positions, answer(), strict=True))
    return [added[position] for position in range(len(added))]


ANALYZE_JOBS = Statement("analyze {schema}._private_jobs")


async def analyze_jobs(executor: Executor) -> None:
    """Update the statistics of the planner, after the table has grown by much."""
    await executor.execute(ANALYZE_JOBS)
