"""A worker inside a program that does something else, too: a bar takes orders over TCP, a worker mixes them.

    python embed_in_app.py             is its own first customer: orders three drinks, waits for them, ends
    python embed_in_app.py --serve     stays open until Ctrl-C or SIGTERM; order with `nc 127.0.0.1 PORT`

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, JobContext, TaskRegistry, Worker, open_database, stop_on_signals

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Order:
    drink: str


@tasks.task("mix")
async def mix(order: Order, context: JobContext) -> None:
    await trio.sleep(0.1)
    print(f"order {context.job.id}: here is your {order.drink}")
    context.state.release()


async def take_orders(client: Client, customer: trio.SocketStream) -> None:
    """Take an order for each line; once confirmed it is in the database, and survives this program."""
    rest = b""
    with suppress(trio.BrokenResourceError):  # the customer left without a word
        async for chunk in customer:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                job = await client.add_job(mix, Order(drink=line.decode(errors="replace").strip()))
                await customer.send_all(f"order {job.id} is taken\n".encode())


async def order_three(port: int, made: trio.Semaphore) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as bar:
        await bar.send_all(b"espresso\nlemonade\ntea\n")
        for _ in range(3):
            await made.acquire()


async def main(*, serve: bool) -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        made = trio.Semaphore(0)
        worker = Worker(database, tasks, state=made)

        async with trio.open_nursery() as app:
            await app.start(worker.run)
            app.start_soon(stop_on_signals, worker)
            bar = partial(trio.serve_tcp, partial(take_orders, client), 0, host="127.0.0.1")
            (listener,) = await app.start(bar)
            port = listener.socket.getsockname()[1]
            print(f"the bar is open at 127.0.0.1, port {port}")

            if not serve:
                await order_three(port, made)
                worker.stop()
            await worker.wait_ended()
            # Orders were taken up to here: those that nobody made are made after the next start.
            app.cancel_scope.cancel()
        print("the bar is closed")


if __name__ == "__main__":
    trio.run(partial(main, serve="--serve" in sys.argv[1:]))
