"""Tests of a program that queues jobs; the page about testing has more.

Run it with `pytest test_an_application.py -o trio_mode=true`, or as a program. Uses the server that
$DATABASE_URL names, or else brings a PostgreSQL of its own. Needs pytest and pytest-trio.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import attrs
import trio

from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
)
from trio_graphile.testing import EndedRun, assert_added, end_at_every_point, run_job, run_until_empty

# --- the application ------------------------------------------------------------------------------

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str


@tasks.task("send_welcome")
async def send_welcome(welcome: Welcome, context: JobContext) -> None:
    await trio.sleep(0.01)
    context.state.append(welcome.to)


@tasks.task("sign_up")
async def sign_up(address: str, context: JobContext) -> None:
    async with context.complete_in_transaction() as connection:  # the welcome is added exactly once
        await context.client.using(connection).add_job(send_welcome, Welcome(to=address))


# --- its tests ------------------------------------------------------------------------------------


async def test_a_welcome_is_sent() -> None:
    sent: list[str] = []
    await run_job(send_welcome, Welcome(to="ada"), state=sent)
    assert sent == ["ada"]


async def test_who_signs_up_is_welcomed(
    trio_graphile_client: Client, trio_graphile_database: Database
) -> None:
    await trio_graphile_client.add_job(sign_up, "ada", JobSpec(queue_name="users"))
    await assert_added(trio_graphile_client, sign_up, "ada", JobSpec(queue_name="users"))
    sent: list[str] = []
    runs = await run_until_empty(trio_graphile_database, tasks, state=sent)
    assert [run.task for run in runs] == ["sign_up", "send_welcome"]
    assert sent == ["ada"]


async def test_nobody_is_forgotten_wherever_the_worker_ends(
    trio_graphile_client: Client, trio_graphile_database: Database
) -> None:
    sent: list[str] = []

    async def scenario() -> Worker:
        sent.clear()
        await trio_graphile_database.execute("delete from graphile_worker._private_jobs")
        await trio_graphile_client.add_job(sign_up, "ada")
        options = WorkerOptions(concurrency=1, shutdown=ShutdownOptions(grace_period=0))
        return Worker(trio_graphile_database, tasks, options, state=sent)

    async def check(_: EndedRun) -> None:
        await run_until_empty(trio_graphile_database, tasks, state=sent)  # the next worker
        assert set(sent) == {"ada"}

    await end_at_every_point(scenario, check, sample=3)


if __name__ == "__main__":
    if importlib.util.find_spec("pytest_trio") is None:
        print("this example needs pytest and pytest-trio: pip install pytest-trio")
        sys.exit()
    options = ["-q", "-p", "no:cacheprovider", "-o", "trio_mode=true", "-c", os.devnull]  # no other settings
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", *options, __file__]))  # noqa: S603  # ours
