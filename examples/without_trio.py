"""A program without Trio that adds jobs: by SQL, through a driver of its own, in its own transactions.

Needs psycopg (`pip install 'psycopg[binary]'`). Uses the database that $DATABASE_URL names, or else brings a
PostgreSQL of its own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, TaskRegistry, Worker, open_database

try:
    import psycopg
except ModuleNotFoundError:
    print("this example needs a driver without Trio: pip install 'psycopg[binary]'")
    sys.exit()

# --- a program that knows nothing of trio_graphile: Flask, Django, a script ----------------------------

ADD_JOB = "select id from graphile_worker.add_job(%s, payload := %s::json, job_key := %s)"


def add_job(connection: psycopg.Connection[Any], task: str, payload: object, key: str | None = None) -> int:
    """Add a job in the transaction of the connection, and return its id."""
    row = connection.execute(ADD_JOB, (task, json.dumps(payload), key)).fetchone()
    assert row is not None  # noqa: S101  # the function returns one
    return int(row[0])


def run_shop(url: str) -> None:
    with psycopg.connect(url) as connection:  # a transaction that commits at the end of the block
        job = add_job(connection, "pack_order", {"number": 1})
        print(f"  job {job} exists once this transaction is committed")

    with psycopg.connect(url) as connection:
        add_job(connection, "pack_order", {"number": 2})
        connection.rollback()
        print("  the job of an order that is rolled back never existed")

    with psycopg.connect(url) as connection:
        for number in (3, 4):
            add_job(connection, "pack_order", {"number": number}, key="the last order counts")
        print("  two adds under one key are one job")


# --- the worker ----------------------------------------------------------------------------------------

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Order:
    number: int


@tasks.task("pack_order")  # here a payload is checked: who adds by SQL has no types
async def pack_order(order: Order) -> None:
    await trio.sleep(0.01)
    print(f"  order {order.number} is packed")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        await Client(database).migrate()
        print("a program without Trio:")
        await trio.to_thread.run_sync(run_shop, url)
        print("a worker:")
        report = await Worker(database, tasks).run_once()
        print(f"  {report.completed} completed, {report.failed} failed")


if __name__ == "__main__":
    trio.run(main)
