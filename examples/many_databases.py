"""One program for several databases: a worker for each, and a client that finds the database of a tenant.

Takes the URLs of the databases as arguments. Without any, it makes two beside the one that $DATABASE_URL
names, or else in a PostgreSQL of its own.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from contextlib import AsyncExitStack
from urllib.parse import urlsplit, urlunsplit

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, JobContext, State, TaskRegistry, Worker, open_database

tasks = TaskRegistry()
TENANTS = ("ada", "blaise", "charles", "dorothy", "edsger", "frances")


@attrs.frozen
class Shard:
    """One of the databases."""

    name: str
    client: Client
    billed: trio.MemorySendChannel[str]


@tasks.task("bill")
async def bill(tenant: str, context: JobContext) -> None:
    await trio.sleep(0.01)
    shard = context.get(Shard)
    print(f"  {tenant} is billed in {shard.name}")
    shard.billed.send_nowait(tenant)


def shard_of(tenant: str, shards: Sequence[Shard]) -> Shard:
    """Return the database of a tenant: always the same one, as long as their number stays the same.

    A table of tenants and their databases, which somebody can change, is what a real program has here.
    """
    return shards[zlib.crc32(tenant.encode()) % len(shards)]


async def make_databases(url: str) -> list[str]:
    """Make two databases beside one; return their URLs."""
    urls = []
    async with open_database(url) as database:
        for name in ("shard_1", "shard_2"):
            await database.execute(f"drop database if exists {name}")
            await database.execute(f"create database {name}")
            urls.append(urlunsplit(urlsplit(url)._replace(path=f"/{name}")))
    return urls


async def main(urls: Sequence[str]) -> None:
    async with AsyncExitStack() as stack:
        urls = urls or await make_databases(await stack.enter_async_context(database_url()))
        billed, was_billed = trio.open_memory_channel[str](len(TENANTS))
        shards = []
        for url in urls:
            database = await stack.enter_async_context(open_database(url))
            client = Client(database, tasks)
            await client.migrate()
            shards.append(Shard(urlsplit(url).path.removeprefix("/"), client, billed))
        async with trio.open_nursery() as nursery:
            workers = [Worker(shard.client.database, tasks, state=State(shard)) for shard in shards]
            for worker in workers:  # while one database is away, its worker waits, and the others go on
                await nursery.start(worker.run)
            print(f"{len(workers)} workers in one process:")
            for tenant in TENANTS:
                await shard_of(tenant, shards).client.add_job(bill, tenant)
            for _ in TENANTS:
                await was_billed.receive()
            for worker in workers:  # they end side by side
                worker.stop()
    print("all have stopped")


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
