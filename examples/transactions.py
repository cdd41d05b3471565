"""Money moves exactly once, though the handler crashes at the worst moment.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import logging

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, Connection, Database, JobContext, TaskRegistry, Worker, open_database

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Transfer:
    payer: str
    payee: str
    amount: int


@tasks.task("transfer_carelessly", retry=[0])
async def transfer_carelessly(transfer: Transfer, context: JobContext) -> None:
    async with context.database.transaction() as connection:
        await move(connection, transfer)
    crash_at_first(context)  # the money has moved, and the job is still there


@tasks.task("transfer", retry=[0])
async def transfer_once(transfer: Transfer, context: JobContext) -> None:
    async with context.complete_in_transaction() as connection:
        await move(connection, transfer)
        crash_at_first(context)  # nothing has moved yet: all of it is rolled back
        await context.client.using(connection).add_job(notify, transfer.payee)
    # The money has moved, the job is gone, and the next one is there: all of it or nothing.


@tasks.task("notify")
def notify(whom: str) -> None:
    print(f"  {whom} is told, once")


async def move(connection: Connection, transfer: Transfer) -> None:
    sql = "update example_accounts set balance = balance + $2::int where owner = $1::text"
    await connection.execute(sql, transfer.payer, -transfer.amount)
    await connection.execute(sql, transfer.payee, transfer.amount)


def crash_at_first(context: JobContext) -> None:
    if context.attempt == 1:
        print("  the handler crashes")
        raise RuntimeError("a simulated crash")


async def main() -> None:
    logging.getLogger("trio_graphile").setLevel(logging.CRITICAL)  # else each crash is logged, as it should
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()
        transfer = Transfer(payer="ada", payee="grace", amount=10)

        for task in (transfer_carelessly, transfer_once):
            await open_accounts(database)
            print(f"{task.identifier}, {transfer.amount} from ada to grace:")
            await client.add_job(task, transfer)
            await Worker(database, tasks).run_once()
            for row in await database.fetch("select owner, balance from example_accounts order by owner"):
                print(f"  {row['owner']} has {row['balance']}")


async def open_accounts(database: Database) -> None:
    await database.execute("""
        drop table if exists example_accounts;
        create table example_accounts (owner text primary key, balance int not null);
        insert into example_accounts values ('ada', 100), ('grace', 100);
    """)


if __name__ == "__main__":
    trio.run(main)
