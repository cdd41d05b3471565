"""The admin beside a worker, in one program: pages and an API that show and repair the queue.

    python admin.py             asks its own API one question, and ends
    python admin.py --serve     serves the pages until Ctrl-C or SIGTERM

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import sys
from functools import partial

import trio
from example_database import database_url

from trio_graphile import Client, TaskRegistry, Worker, open_database, stop_on_signals
from trio_graphile.admin import Admin, AdminOptions, LoginOptions, serve_admin

tasks = TaskRegistry()
SECRET = "from your settings"  # noqa: S105


@tasks.task("send_welcome", max_attempts=1)
async def send_welcome(to: str) -> None:
    await trio.sleep(0.01)
    if to == "nobody":
        raise LookupError(to)


async def main(*, serve: bool) -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        await client.add_jobs([(send_welcome, to) for to in ("nobody", "ada")])

        login = LoginOptions(mode="basic" if serve else "bearer", secret=SECRET)
        admin = Admin(client, AdminOptions(login=login))
        worker = Worker(database, tasks)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(stop_on_signals, worker)
            await nursery.start(admin.run)
            [address] = await nursery.start(serve_admin, admin, "127.0.0.1:0")
            print(f"the admin is at {address}, its secret is {SECRET!r}")
            if not serve:
                print(await ask(address, "/api/session"))
                worker.stop()
            await worker.wait_ended()
            nursery.cancel_scope.cancel()  # the admin ends after the worker, so that it can be seen to stop


async def ask(address: str, path: str) -> str:
    """Return what the API answers. Any client for HTTP would do."""
    host, port = address.removeprefix("http://").split(":")
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {SECRET}"]
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        answer = b"".join([chunk async for chunk in stream]).decode()
    return answer.partition("\r\n\r\n")[2]


if __name__ == "__main__":
    trio.run(partial(main, serve="--serve" in sys.argv[1:]))
