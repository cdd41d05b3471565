"""`run --setup`: what a program's own code lends to the worker."""

from __future__ import annotations

import signal

import pytest

from tests.cli.program import Program
from trio_graphile import Client, Database

LENDING = """
import contextlib
from datetime import timedelta

import trio

from trio_graphile import Client, CronItem, Database, JobContext, State, TaskRegistry, WorkerSetup
from trio_graphile.hooks import Hooks, JobCompleted
from shop import say

tasks = TaskRegistry()


class Mailer:
    is_open = True

    def send(self, name):
        say(f"sent {name}, open: {self.is_open}")


class Plugin:
    def register(self, hooks: Hooks) -> None:
        hooks.on(JobCompleted, self.completed)

    def completed(self, event: JobCompleted) -> None:
        say("the plugin has heard")


@tasks.task("mail")
async def mail(name: str, context: JobContext) -> None:
    context.get(Mailer).send(name)


@tasks.task("tick", max_attempts=1)
async def tick(context: JobContext) -> None:
    say("ticked")


@tasks.task("hold")
async def hold(context: JobContext) -> None:
    say("hold runs")
    await context.stopping.wait()
    context.get(Mailer).send("the last")


@contextlib.asynccontextmanager
async def setup(database: Database):
    mailer = Mailer()
    say(f"opened on {database.schema}")
    try:
        yield WorkerSetup(state=State(mailer), plugins=[Plugin()], crontab=CRONTAB)
    finally:
        mailer.is_open = False
        await trio.lowlevel.checkpoint()
        say("closed")
"""
FLAGS = ("run", "lending:tasks", "--setup", "lending:setup")
NO_DATABASE = ("--database-url", "postgresql://nobody@127.0.0.1:1/x")


@pytest.fixture
def lending(shop: Program) -> Program:
    shop.write("lending.py", LENDING.replace("CRONTAB", "()"))
    return shop


async def test_it_lends_state_and_plugins_for_as_long_as_the_worker_runs(
    lending: Program, database: Database
) -> None:
    await Client(database).add_raw_job("mail", "ada")
    ended = await lending.run(*FLAGS, "--once")
    assert ended.exit_code == 0
    lines = ended.output.splitlines()
    assert (lines[0], lines[-2]) == ("opened on graphile_worker", "closed")
    assert {"sent ada, open: True", "the plugin has heard"} <= set(lines)
    assert "1 completed" in lines[-1]


async def test_it_lends_recurring_jobs(lending: Program, database: Database) -> None:
    item = "CronItem(task_identifier='tick', schedule='* * * * *', identifier='ticks', backfill_period=600)"
    lending.write("lending.py", LENDING.replace("CRONTAB", f"[{item}]"))
    async with lending.running(*FLAGS) as running:
        await running.wait_for("crontab entries: 1; ")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0


async def test_each_of_several_processes_has_its_own_and_jobs_end_before_it_does(
    lending: Program, database: Database
) -> None:
    async with lending.running(*FLAGS, "--processes", "2") as running:
        await running.wait_until(lambda output: output.count("schema graphile_worker\n") == 2)
        await Client(database).add_raw_job("hold")
        await running.wait_for("hold runs")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert running.output.count("opened on graphile_worker") == 2
    assert running.output.count("closed") == 2
    assert "sent the last, open: True" in running.output


STUBBORN = """
import contextlib
import trio
from shop import say, tasks

@contextlib.asynccontextmanager
async def slow_to_open(_):
    say("opening")
    await trio.sleep_forever()
    yield

@contextlib.asynccontextmanager
async def slow_to_close(_):
    yield
    say("closing")
    try:
        await trio.sleep_forever()
    finally:
        say("cancelled")

@contextlib.asynccontextmanager
async def crashing(_):
    async def crash():
        say("crashes")
        raise ValueError("lost its broker")
    async with trio.open_nursery() as nursery:
        yield
        nursery.start_soon(crash)
"""


async def test_a_signal_while_it_opens_ends_the_program_at_once(shop: Program) -> None:
    shop.write("stubborn.py", STUBBORN)
    async with shop.running("run", "stubborn:tasks", "--setup", "stubborn:slow_to_open") as running:
        await running.wait_for("opening")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert running.output.endswith("ended before the worker had started\n")


@pytest.mark.parametrize("flags", [("--flush-timeout", "0.6"), ()])
async def test_it_cannot_keep_the_program_from_its_end(shop: Program, flags: tuple[str, ...]) -> None:
    """By its time, or by the second signal."""
    shop.write("stubborn.py", STUBBORN)
    arguments = ("--setup", "stubborn:slow_to_close", "--grace-period", "0", *flags)
    async with shop.running("run", "stubborn:tasks", *arguments) as running:
        await running.wait_for("schema graphile_worker\n")
        running.send(signal.SIGTERM)
        await running.wait_for("closing")
        if not flags:
            running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "cancelled\n" in running.output
    assert "(--setup) did not close in time, and was cancelled" in running.output
    assert "0 completed" in running.output


async def test_what_it_raises_is_named_and_no_success(shop: Program) -> None:
    shop.write("stubborn.py", STUBBORN)
    ended = await shop.run("run", "stubborn:tasks", "--setup", "stubborn:crashing", "--once")
    assert "--setup: stubborn:crashing failed: ValueError: lost its broker (--verbose" in ended.error
    assert ended.exit_code == 1


ODD = """
import contextlib
from shop import tasks
number = 3

async def coroutine(_):
    pass

def plain(_):
    pass

@contextlib.asynccontextmanager
async def wrong(_):
    yield {}

@contextlib.asynccontextmanager
async def failing(_):
    1 / 0
    yield
"""


@pytest.mark.parametrize(
    ("reference", "reason", "exit_code"),
    [
        ("odd", "'odd' names no setup: write MODULE:FUNCTION", 2),
        ("odd:missing", "--setup: odd:missing does not exist", 2),
        ("odd:number", "--setup: odd:number is a int, not a function", 2),
        ("odd:plain", "returns a NoneType, not an async context manager", 2),
        ("odd:wrong", "--setup: odd:wrong yields a dict, not a WorkerSetup", 2),
        ("odd:failing", "--setup: odd:failing failed: ZeroDivisionError: division by zero", 1),
    ],
)
async def test_what_is_no_setup_is_named(shop: Program, reference: str, reason: str, exit_code: int) -> None:
    shop.write("odd.py", ODD)
    ended = await shop.run("run", "odd:tasks", "--setup", reference, "--once")
    assert reason in ended.error
    assert ended.exit_code == exit_code
