"""The program in a terminal: tables, colours, a status that stays, Ctrl-C."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from tests.cli.program import Program
from tests.cli.terminal import terminal
from trio_graphile import Client, Database, JobSpec

FAR = datetime(2099, 1, 31, 6, tzinfo=UTC)
COLOUR_OR_STYLE = re.compile(r"\x1b\[[0-9;]*m")
COLOUR = re.compile(r"\x1b\[[0-9;]*3\d[;m]")


async def test_lists_are_tables_in_colour(shop: Program, database: Database) -> None:
    await Client(database).permanently_fail_jobs([(await Client(database).add_raw_job("[red]resize")).id])
    async with terminal(shop.folder, shop.whole_environment(), "list") as screen:
        assert await screen.wait_ended() == 0
    assert "┃" in screen.written
    assert "[red]resize" in screen.written, "what users wrote is no markup"
    assert COLOUR.search(screen.written)


@pytest.mark.parametrize(("columns", "is_table"), [(150, True), (80, False), (30, False)])
async def test_no_terminal_is_too_narrow_for_a_list(
    shop: Program,
    database: Database,
    columns: int,
    is_table: bool,  # noqa: FBT001  # a column of the table
) -> None:
    """Nothing is cut: where a table does not fit, each row is a list of names and values."""
    name, key = "send-welcome-to-whoever-is-new", "whoever-is-new"
    await Client(database).add_raw_job(name, None, JobSpec(run_at=FAR, job_key=key))
    async with terminal(shop.folder, shop.whole_environment(), "list", columns=columns) as screen:
        assert await screen.wait_ended() == 0
    assert ("┃" in screen.written) == is_table
    assert max(map(len, COLOUR_OR_STYLE.sub("", screen.written).splitlines())) <= columns
    shown = re.sub(r"[\s│]", "", COLOUR_OR_STYLE.sub("", screen.written))  # a cell may take several lines
    for text in (name, key, "scheduled", "2099-01-31T06:00:00Z"):
        assert text in shown


async def test_what_users_wrote_does_nothing_to_the_terminal(shop: Program, database: Database) -> None:
    wild = "\x1b]0;owned\x07\x9b2J\u202e"
    job = await Client(database).add_raw_job(wild, {"name": wild})
    for command in (
        ("list",),
        ("tasks",),
        ("show", str(job.id)),
        ("show", str(job.id), "--json"),
        ("remove", wild),
    ):
        async with terminal(shop.folder, shop.whole_environment(), *command) as screen:
            await screen.wait_ended()
        assert "owned" in screen.written
        assert not re.search("\x1b\\]|[\x07\x9b\u202e]", screen.written)


async def test_no_color_is_heeded(shop: Program, database: Database) -> None:
    await Client(database).permanently_fail_jobs([(await Client(database).add_raw_job("resize")).id])
    environment = {**shop.whole_environment(), "NO_COLOR": "1"}
    async with terminal(shop.folder, environment, "list") as screen:
        assert await screen.wait_ended() == 0
    assert "resize" in screen.written
    assert not COLOUR.search(screen.written)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_table_stays_below_what_is_printed_and_ctrl_c_stops(
    shop: Program, database: Database, processes: str
) -> None:
    await Client(database).add_raw_jobs([("greet", "ada"), ("fail", None), ("obey", None)])
    flags = ("--processes", processes, "--concurrency", "3")
    async with terminal(shop.folder, shop.whole_environment(), "run", "shop:tasks", *flags) as screen:
        await screen.wait_for("greeted ada")
        await screen.wait_until(lambda written: "0 ready; 1 scheduled; 1 locked" in written)
        await screen.wait_until(lambda written: written.count(" 3 at once") == int(processes))
        screen.press("\x03")
        assert await screen.wait_ended() == 0
    assert "jobs/s" in screen.written
    assert "obey ends" in screen.written
    assert len(re.findall(r"ended: \d completed, \d failed", screen.written)) == int(processes)
    last = screen.written.rpartition("\x1b[?25h")[2]
    assert "jobs/s" not in last, "the table is gone in the end"


async def test_a_long_measurement_shows_how_far_it_is(shop: Program) -> None:
    arguments = ("bench", "--jobs", "2000", "--samples", "1", "--concurrency", "5")
    async with terminal(shop.folder, shop.whole_environment(), *arguments) as screen:
        assert await screen.wait_ended() == 0
    assert re.search(r"\d+/2000", screen.written)
    assert "jobs handled" in screen.written
