"""A worker inside an ASGI application that Hypercorn serves on Trio: requests add jobs, the worker runs them.

    python asgi_app.py             is its own first client, and ends
    python asgi_app.py --serve     serves until Ctrl-C or SIGTERM: curl -X POST http://127.0.0.1:8000/orders/tea

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own. Needs Hypercorn and
Starlette.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import trio
from example_database import database_url
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from trio_graphile import Client, JobContext, TaskRegistry, Worker, open_database, stop_on_signals

try:
    import hypercorn
    import hypercorn.trio
except ModuleNotFoundError:
    print("this example needs a server for ASGI: pip install hypercorn")
    sys.exit()

tasks = TaskRegistry()
PORT = 8000


@tasks.task("mix")
async def mix(drink: str, context: JobContext) -> None:
    await trio.sleep(0.1)
    print(f"  here is your {drink}")
    context.state.set()


def make_app(client: Client) -> Starlette:
    """Make the application of a client, so that a test can give it another database."""

    async def order(request: Request) -> JSONResponse:
        job = await client.add_job(mix, request.path_params["drink"])
        return JSONResponse({"order": job.id}, 202)  # it is in the database now, and survives this program

    return Starlette(routes=[Route("/orders/{drink}", order, methods=["POST"])])


async def main(*, serve: bool) -> None:
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{PORT if serve else 0}"]
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        mixed = trio.Event()
        worker = Worker(database, tasks, state=mixed)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(stop_on_signals, worker)
            # Whoever stops the worker ends the server, too. What was answered by then is in the table.
            app: Any = make_app(client)  # the two describe ASGI's messages by different types
            start = partial(hypercorn.trio.serve, app, config, shutdown_trigger=worker.wait_stopping)
            [address] = await nursery.start(start)
            print(f"the bar is open at {address}")
            if not serve:
                await order_tea(address)
                await mixed.wait()
                worker.stop()
            await worker.wait_ended()
            nursery.cancel_scope.cancel()
        print("the bar is closed")


async def order_tea(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        head = f"POST /orders/tea HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        await stream.send_all(head.encode())
        answer = b"".join([chunk async for chunk in stream]).decode()
    head, _, body = answer.partition("\r\n\r\n")
    print(f"  {head.splitlines()[0]}: {body}")


if __name__ == "__main__":
    trio.run(partial(main, serve="--serve" in sys.argv[1:]))
