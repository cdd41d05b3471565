"""A web application that Hypercorn serves on Trio: requests add jobs, a worker beside it runs them.

    python asgi.py             is its own first visitor, and ends
    python asgi.py --serve     stays up until Ctrl-C or SIGTERM

Needs Starlette, which the extra `admin` brings, and Hypercorn. Any other framework and server for ASGI on
Trio will do. Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import http.client
import json
import sys
from functools import partial
from typing import Any

import attrs
import trio
from example_database import database_url
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from trio_graphile import (
    Client,
    JobContext,
    JobSpec,
    TaskRegistry,
    Worker,
    open_database,
    stop_on_signals,
)

try:
    from hypercorn.config import Config
    from hypercorn.trio import serve as serve_asgi
except ModuleNotFoundError:
    print("this example needs a server for ASGI: pip install hypercorn")
    sys.exit()

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Receipt:
    order: int
    to: str


@tasks.task("mail_receipt")
async def mail_receipt(receipt: Receipt, context: JobContext) -> None:
    await trio.sleep(0.05)  # no visitor waits for this
    print(f"  a receipt for order {receipt.order} to {receipt.to}")
    context.state.set()


def make_app(client: Client, worker: Worker) -> Starlette:
    async def take_order(request: Request) -> JSONResponse:
        order = await request.json()
        receipt = Receipt(order=order["number"], to=order["customer"])
        # Once it is answered, the job is in the database and survives this program. The key makes one job of
        # a request that is sent twice.
        job = await client.add_job(mail_receipt, receipt, JobSpec(job_key=f"receipt {receipt.order}"))
        return JSONResponse({"job": job.id}, 202)

    async def show_queue(_: Request) -> JSONResponse:
        backlog, worker_now = await client.backlog(), worker.statistics()
        return JSONResponse({"ready": backlog.ready, "run here": worker_now.busy, "slots": worker_now.slots})

    return Starlette(routes=[Route("/orders", take_order, methods=["POST"]), Route("/queue", show_queue)])


async def main(*, serve: bool) -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        mailed = trio.Event()
        worker = Worker(database, tasks, state=mailed)
        config = Config()
        config.bind = ["127.0.0.1:0"]

        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(stop_on_signals, worker)
            # One signal stops both: the server answers what it has accepted, while the worker finishes its
            # jobs. Jobs that late requests add are run after the next start.
            app: Any = make_app(client, worker)  # the two have different types for ASGI
            server = partial(serve_asgi, app, config, shutdown_trigger=worker.wait_stopping)
            [address] = await nursery.start(server)
            print(f"the application is at {address}")

            if not serve:
                await trio.to_thread.run_sync(visit, address)
                await mailed.wait()
                worker.stop()
        print("both have ended")


def visit(address: str) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    for method, path, body in (
        ("POST", "/orders", {"number": 17, "customer": "ada"}),
        ("GET", "/queue", None),
    ):
        connection.request(method, path, json.dumps(body))
        answer = connection.getresponse()
        print(f"  {method} {path}: {answer.status} {answer.read().decode()}")
    connection.close()


if __name__ == "__main__":
    trio.run(partial(main, serve="--serve" in sys.argv[1:]))
