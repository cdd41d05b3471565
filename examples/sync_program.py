"""A program without Trio adds jobs: one SQL function, through any driver, in the program's own transaction.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own. Needs psycopg.
"""

from __future__ import annotations

import json
import sys

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, TaskRegistry, Worker, open_database

try:
    import psycopg
except ModuleNotFoundError:
    print("this example needs a driver without Trio: pip install 'psycopg[binary]'")
    sys.exit()

# --- the program without Trio: a Flask view, a Django command, a script ---------------------------

ADD_JOB = "select id from graphile_worker.add_job(%s, payload := %s::json, queue_name := %s)"


def sign_up(url: str, address: str, *, fails: bool = False) -> None:
    with psycopg.connect(url) as connection:  # commits at the end, or rolls back
        connection.execute("create table if not exists users (address text not null)")
        connection.execute("insert into users values (%s)", (address,))
        connection.execute(ADD_JOB, ("send_welcome", json.dumps({"to": address}), "mail"))
        if fails:
            raise ConnectionAbortedError("the browser was closed")


# --- the worker, in a program of its own ----------------------------------------------------------

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str


@tasks.task("send_welcome")
async def send_welcome(welcome: Welcome) -> None:
    await trio.sleep(0.01)
    print(f"  welcome, {welcome.to}")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        await Client(database).migrate()  # when you deploy: `trio-graphile migrate`
        await trio.to_thread.run_sync(sign_up, url, "ada@example.org")
        try:
            await trio.to_thread.run_sync(lambda: sign_up(url, "grace@example.org", fails=True))
        except ConnectionAbortedError as error:
            print(f"{error}: no user, and no job")
        report = await Worker(database, tasks).run_once()
        print(f"{report.completed} completed")
        await database.execute("drop table users")


if __name__ == "__main__":
    trio.run(main)
