"""Many jobs in one statement: of one task, of several, and by name for programs that lack the tasks.

Uses the database that $DATABASE_URL names, or else brings a PostgreSQL of its own.
"""

from __future__ import annotations

import attrs
import trio
from example_database import database_url

from trio_graphile import Client, JobSpec, TaskRegistry, Worker, WorkerOptions, open_database

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Parcel:
    to: str
    grams: int = 500


@attrs.frozen(kw_only=True)
class Payment:
    customer: int
    amount: int


@tasks.task("send_parcel")
async def send_parcel(parcel: Parcel) -> None:
    await trio.sleep(0.01)
    print(f"  a parcel of {parcel.grams} g to {parcel.to}")


@tasks.task("collect_payment")
async def collect_payment(payment: Payment) -> None:
    await trio.sleep(0.01)
    print(f"  {payment.amount} from customer {payment.customer}")


async def main() -> None:
    async with database_url() as url, open_database(url) as database:
        client = Client(database, tasks)
        await client.migrate()

        jobs = await client.add_jobs([(send_parcel, Parcel(to=who)) for who in ("ada", "grace", "edsger")])
        print(f"of one task: {len(jobs)} jobs")

        # One call for each type, so that a type checker compares payloads with their tasks.
        urgent = JobSpec(priority=-10)  # lower numbers run first
        async with database.transaction() as connection:
            both = client.using(connection)
            await both.add_jobs([(send_parcel, Parcel(to="barbara", grams=1200))])
            await both.add_jobs([(collect_payment, Payment(customer=7, amount=50), urgent)])
        print("of two tasks, in one transaction: all of them or none")

        # What is added by name needs no task here, and nobody checks it before a worker does.
        named = await client.add_raw_jobs(
            [
                ("send_parcel", {"to": "alan"}),
                ("collect_payment", {"customer": 8, "amount": 20}, urgent),
            ]
        )
        print(f"by name, with plain JSON: {', '.join(job.task_identifier for job in named)}")

        print("a worker, the urgent ones first:")
        report = await Worker(database, tasks, WorkerOptions(concurrency=1)).run_once()
        print(f"  {report.completed} completed")


if __name__ == "__main__":
    trio.run(main)
