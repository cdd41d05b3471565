"""How workers are doing: what is measured, and what is said of it."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.program import Program
from trio_graphile import Client, Database
from trio_graphile._model.statistics import Backlog
from trio_graphile.cli._status import RateMeter, Status, describe, describe_backlog, table_of, total_of

BACKLOG = Backlog(ready=7, scheduled=2, locked=3, failed=1, oldest_ready=12.3)
ONE = Status(name="1", busy=2, slots=4, held=5, completed=100, failed=0, rate=50.0)
TWO = Status(name="2", busy=1, slots=4, held=0, completed=50, failed=3, rate=25.5)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = RateMeter()
    assert meter.rate(0.0, 0) == 0.0
    assert meter.rate(1.0, 100) == 100.0
    assert [meter.rate(float(second), 100) for second in range(2, 9)][-1] == 0.0


def test_the_rate_of_a_worker_that_was_started_again_begins_anew() -> None:
    meter = RateMeter()
    meter.rate(0.0, 1000)
    assert meter.rate(1.0, 10) == 0.0
    assert meter.rate(2.0, 30) == 20.0


def test_a_line_says_it_all() -> None:
    assert describe(total_of([ONE, TWO]), BACKLOG) == (
        "75.5 jobs/s, 3 of 8 slots busy, 5 claimed ahead, 7 ready, 2 scheduled, 150 completed, 3 failed"
    )
    assert "ready" not in describe(ONE, None)
    assert "1 of 1 slot busy" in describe(Status(name="one", slots=1, busy=1), None)


@pytest.mark.parametrize(("statuses", "rows"), [([], 0), ([ONE], 1), ([ONE, TWO], 3)])
def test_a_table_has_a_row_for_each_worker_and_one_for_all(statuses: list[Status], rows: int) -> None:
    assert table_of(statuses).row_count == rows


def test_the_backlog_is_the_line_below() -> None:
    assert describe_backlog(BACKLOG) == (
        "7 ready, the oldest for 12 s; 2 scheduled; 3 locked; 1 without an attempt left"
    )
    assert describe_backlog(None) == "counting the backlog"


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_through_a_pipe_a_line_comes_from_time_to_time(
    shop: Program, database: Database, processes: str
) -> None:
    await Client(database).add_raw_jobs([("greet", "ada"), ("fail", None)])
    flags = ("--status-interval", "0.05", "--json", "--processes", processes, "--concurrency", "2")
    async with shop.running("run", "shop:tasks", *flags) as running:
        await running.wait_for('"completed": 1, "failed": 1')
        await running.wait_for(f'"slots": {2 * int(processes)}')
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    lines = [json.loads(line) for line in running.output.splitlines() if line.startswith("{")]
    started, *_, ended = (line for line in lines if line["event"] != "status")
    assert started["event"] == "started"
    assert started["tasks"] == ["greet", "fail", "obey", "resist", "block", "wait"]
    assert ended["event"] == "ended"
    assert {line["event"] for line in lines} == {"started", "status", "ended"}


async def test_plugins_are_found_by_their_names(shop: Program, database: Database) -> None:
    shop.write(
        "plugs.py",
        "from trio_graphile.hooks import JobCompleted\n"
        "class Loud:\n"
        "    def register(self, hooks):\n"
        "        hooks.on(JobCompleted, lambda event: print('heard of', event.job.task_identifier))\n"
        "loud = Loud()\n"
        "def make():\n"
        "    return Loud()\n",
    )
    await Client(database).add_raw_job("greet", "ada")
    flags = [part for name in ("loud", "Loud", "make") for part in ("--plugin", f"plugs:{name}")]
    ended = await shop.run("run", "shop:tasks", "--once", *flags)
    assert ended.exit_code == 0
    assert ended.output.count("heard of greet") == 3


BAD_PLUGINS = {
    "plugs": "'plugs' names no plugin: write MODULE:NAME, such as app.plugins:metrics",
    "shop:nothing": "--plugin: shop:nothing does not exist",
    "shop:tasks": "--plugin: shop:tasks is a TaskRegistry without a method register(hooks)",
    "nowhere:x": "there is no module 'nowhere'",
}


@pytest.mark.parametrize("reference", BAD_PLUGINS)
async def test_a_plugin_that_is_none_is_wrong_usage(program: Program, reference: str) -> None:
    ended = await program.run("run", "shop:tasks", "--plugin", reference)
    assert BAD_PLUGINS[reference] in ended.error
    assert (ended.exit_code, ended.output) == (2, "")
