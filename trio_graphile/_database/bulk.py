"""Many jobs at once: in one statement if they are alike, in one transaction if they are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import trio

from trio_graphile._database import manage
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._exceptions import DuplicateJobKey, OptionInvalid, leaves
from trio_graphile._model.jobs import Job, JobKeyMode, NewJob

T = TypeVar("T")

_CHUNK = 5_000
"""How many jobs go into one statement; more are split inside a transaction."""


async def add_many(
    executor: Database | Connection, jobs: Sequence[T], make: Callable[[T], NewJob]
) -> list[Job]:
    """Add the jobs that `make` makes, all or none; return the rows in their order.

    Raises `DuplicateJobKey`, `OptionInvalid`, and what `make` raises.
    """
    if len(jobs) > _CHUNK:
        async with executor.transaction() as connection:
            return await _add_in_chunks(connection, jobs, make)
    new_jobs = [make(job) for job in jobs]
    calls = _calls(new_jobs, set())
    if len(calls) <= 1:
        return await _add_all(executor, new_jobs, calls)
    async with executor.transaction() as connection:
        return await _add_all(connection, new_jobs, calls)


async def _add_in_chunks(connection: Connection, jobs: Sequence[T], make: Callable[[T], NewJob]) -> list[Job]:
    """Add many jobs in a transaction that is open; while the database adds some, the next are made ready."""
    added: list[Job] = []
    keys: set[str] = set()
    send, receive = trio.open_memory_channel[list[NewJob]](0)

    async def make_ready() -> None:
        async with send:
            for start in range(0, len(jobs), _CHUNK):
                await send.send([make(job) for job in jobs[start : start + _CHUNK]])
                await trio.lowlevel.checkpoint()  # now they are on their way

    try:
        async with receive, trio.open_nursery() as nursery:
            nursery.start_soon(make_ready)
            async for new_jobs in receive:
                added += await _add_all(connection, new_jobs, _calls(new_jobs, keys))
    except BaseExceptionGroup as group:
        errors = list(leaves(group))
        raise (errors[0] if len(errors) == 1 else group) from None  # two Trio tasks are nobody's business
    return added


def _calls(new_jobs: Sequence[NewJob], keys: set[str]) -> list[tuple[bool, list[int]]]:
    """Return the calls that add all jobs: whether `run_at` is preserved, and which jobs, by position.

    `keys` are those of jobs before them; theirs are added.
    """
    by_mode: dict[bool, list[int]] = {}
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
        by_mode.setdefault(mode is JobKeyMode.PRESERVE_RUN_AT and key is not None, []).append(position)
    return list(by_mode.items())


async def _add_all(
    executor: Database | Connection, new_jobs: Sequence[NewJob], calls: Iterable[tuple[bool, list[int]]]
) -> list[Job]:
    added: dict[int, Job] = {}
    for preserve_run_at, positions in calls:
        chosen = [new_jobs[position] for position in positions]
        jobs = await manage.add_jobs(executor, chosen, preserve_run_at=preserve_run_at)
        added.update(zip(positions, jobs, strict=True))
    return [added[position] for position in range(len(new_jobs))]
