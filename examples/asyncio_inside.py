"""Handlers that call asyncio code, in a loop that is open beside Trio: here a server and its clients.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # what this example is about
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from example_database import database_url

from trio_graphile import Client, Database, JobContext, TaskRegistry, Worker, current_job, open_database

tasks = TaskRegistry()


@tasks.task("shout")
async def shout(text: str, context: JobContext) -> None:  # Trio's, as every async handler
    answer = await context.run_asyncio(ask, context.state, text)
    print(f"  {text!r} comes back as {answer!r}")


@tasks.task("listen", timeout=0.3, max_attempts=1)
async def listen(context: JobContext) -> None:
    await context.run_asyncio(wait_for_news)


# --- asyncio's side of the house -----------------------------------------------------------------


async def ask(port: int, text: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{text}\n".encode())
        answer, _ = await asyncio.gather(reader.readline(), asyncio.sleep(0.1))
        return answer.decode().strip()
    finally:
        writer.close()


async def wait_for_news() -> None:
    job = current_job()  # known here, too
    assert job is not None  # a handler has one
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print(f"  job {job.id} took too long, and asyncio was told")
        raise


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.readline()).upper())
    await writer.drain()
    writer.close()


# --- Trio's --------------------------------------------------------------------------------------


async def main() -> None:
    async with database_url() as url, open_database(url) as database, serve_echo(database) as port:
        client = Client(database, tasks)
        await client.migrate()
        await client.add_jobs([(shout, text) for text in ("hello", "is anybody there", "bye")])
        await client.add_job(listen, None)
        report = await Worker(database, tasks, state=port).run_once()
        print(f"{report.completed} completed, {report.failed} failed")


@asynccontextmanager
async def serve_echo(database: Database) -> AsyncIterator[int]:
    server = await database.run_asyncio(partial(asyncio.start_server, echo, "127.0.0.1", 0))
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


if __name__ == "__main__":
    trio.run(main)
