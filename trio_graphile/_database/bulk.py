"""Many jobs at once: in few statements, in one transaction if it takes more than one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import attrs
import trio

from trio_graphile._database.additions import Answer, add_alike_jobs, add_jobs, add_keyed_jobs, are_alike
from trio_graphile._database.connection import Connection, brief_transaction
from trio_graphile._database.database import Database
from trio_graphile._exceptions import DuplicateJobKey, OptionInvalid
from trio_graphile._model.groups import leaves
from trio_graphile._model.jobs import AddedJobs, Job, JobKeyMode, NewJob

T = TypeVar("T")

_CHUNK = 2_000
"""How many jobs are sent at a time; more are split inside a transaction."""
_LARGEST_CALL = 32_000_000
"""How many characters their payloads may have together, unless one has more: PostgreSQL takes no gigabyte."""


@attrs.define
class _Call:
    """Jobs that one statement can add."""

    preserve_run_at: bool
    positions: list[int] = attrs.field(factory=list)
    """Where they stand among those that were given."""
    new_jobs: list[NewJob] = attrs.field(factory=list)
    size: int = 0
    """How many characters their payloads have."""


async def add_many(
    executor: Database | Connection, jobs: Sequence[T], make: Callable[[T], NewJob]
) -> AddedJobs:
    """Add the jobs that `make` makes, all or none.

    Raises `DuplicateJobKey`, `OptionInvalid`, and what `make` raises.
    """
    if len(jobs) > _CHUNK:
        async with brief_transaction(executor) as connection:
            return AddedJobs(len(jobs), tuple(await _add_in_chunks(connection, jobs, make)))
    calls = _calls(map(make, jobs), set())
    if len(calls) <= 1:
        return AddedJobs(len(jobs), (await _send(executor, calls),))
    async with brief_transaction(executor) as connection:
        return AddedJobs(len(jobs), (await _send(connection, calls),))


async def _add_in_chunks(
    connection: Connection, jobs: Sequence[T], make: Callable[[T], NewJob]
) -> list[Answer]:
    """Add many jobs in a transaction that is open; while the database adds some, the next are made ready."""
    answers: list[Answer] = []
    keys: set[str] = set()
    chunks = [jobs[start : start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    ready = _calls(map(make, chunks[0]), keys)

    async def make_ready(chunk: Sequence[T]) -> None:
        nonlocal ready
        await trio.lowlevel.checkpoint()  # the others are on their way first: the database is not to wait
        ready = _calls(map(make, chunk), keys)

    try:
        for following in (*chunks[1:], ()):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(make_ready, following)
                answers.append(await _send(connection, ready))
    except BaseExceptionGroup as group:
        errors = list(leaves(group))
        raise (errors[0] if len(errors) == 1 else group) from None  # two Trio tasks are nobody's business
    return answers


def _calls(new_jobs: Iterable[NewJob], keys: set[str]) -> list[_Call]:
    """Return the calls that add all jobs. `keys` are those of jobs before them; theirs are added."""
    calls: list[_Call] = []
    by_mode: dict[bool, _Call] = {}
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
        call = by_mode.get(preserve_run_at)
        if call is None or call.size + size > _LARGEST_CALL:
            call = by_mode[preserve_run_at] = _Call(preserve_run_at)
            calls.append(call)
        call.size += size
        call.positions.append(position)
        call.new_jobs.append(new_job)
    return calls


async def _send(executor: Database | Connection, calls: Sequence[_Call]) -> Answer:
    answers = [await _send_one(executor, call) for call in calls]
    return answers[0] if len(answers) == 1 else partial(_in_order, calls, answers)


async def _send_one(executor: Database | Connection, call: _Call) -> Answer:
    if are_alike(call.new_jobs) and (answer := await add_alike_jobs(executor, call.new_jobs)) is not None:
        return answer
    if all(new_job.spec.job_key is not None for new_job in call.new_jobs):
        return await add_keyed_jobs(executor, call.new_jobs, preserve_run_at=call.preserve_run_at)
    async with brief_transaction(executor) as connection:  # if it is refused, nothing stays
        return await add_jobs(connection, call.new_jobs, preserve_run_at=call.preserve_run_at)


def _in_order(calls: Sequence[_Call], answers: Sequence[Answer]) -> list[Job]:
    """Return the jobs of several calls in the order in which they were given."""
    added: dict[int, Job] = {}
    for call, answer in zip(calls, answers, strict=True):
        added.update(zip(call.positions, answer(), strict=True))
    return [added[position] for position in range(len(added))]
