"""Handlers in processes: they compute on all processors, and are killed when their time is up.

Needs `pip install 'trio-graphile[processes]'`. Uses the database that $DATABASE_URL names, or else brings a
PostgreSQL of its own.
"""

from __future__ import annotations

import math
import os

import attrs
import trio
from example_database import database_url

from trio_graphile import (
    Client,
    Database,
    ProcessOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    current_job,
    open_database,
)

# Each process imports this module anew: what stands here happens there, too.
tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Span:
    first: int
    last: int


@tasks.task("count_primes", lane="process")
def count_primes(span: Span) -> None:
    primes = sum(is_prime(number) for number in range(span.first, span.last + 1))
    job = current_job()  # there is no context here, but this much is known
    assert job is not None  # a handler has one
    print(f"  job {job.id}: {primes} primes from {span.first} to {span.last}", flush=True)


@tasks.task("search", lane="process", timeout=0.5, max_attempts=1)
def search(number: int) -> None:
    while not (is_prime(number) and number % 2 == 0):  # for ever, and it never looks up
        number += 1


@tasks.task("crash", lane="process", max_attempts=1)
def crash() -> None:
    os.abort()  # as a library written in C might


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        options = WorkerOptions(concurrency=4, processes=ProcessOptions(count=2, jobs_per_process=100))

        print("two processes compute:")
        spans = [Span(first=first, last=first + 9_999) for first in range(1, 40_000, 10_000)]
        await client.add_jobs([(count_primes, span) for span in spans])
        await Worker(database, tasks, options).run_once()

        print("one that does not end is killed, one that dies takes nobody along:")
        await client.add_job(search, 4)
        await client.add_job(crash, None)
        await Worker(database, tasks, options).run_once()
        for task, error in await errors(database):
            print(f"  {task}: {error}")


async def errors(database: Database) -> list[tuple[str, str]]:
    rows = await database.fetch(
        f"select task_identifier, last_error from {database.schema}.jobs"
        " where task_identifier in ('search', 'crash') order by id desc limit 2"
    )
    return [(row["task_identifier"], row["last_error"]) for row in rows]


if __name__ == "__main__":  # each process imports this file, and must not do this
    trio.run(main)
