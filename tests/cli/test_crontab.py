"""`trio-graphile crontab check`, and `run --crontab`."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.program import Program
from trio_graphile import Database

FINE = """\
# every morning
0 8 * * mon-fri greet ?id=morning&tz=Europe/Paris&fill=1d {name: 'ada'}
*/15 * * * * fail
"""
WRONG = """\
* * * * * greet
60 * * * * greet ?id=b
@daily fail
* * * * * greet {name: }
"""


async def test_check_shows_the_entries_and_their_next_five_runs(program: Program) -> None:
    program.write("jobs.cron", FINE)
    ended = await program.run("crontab", "check", "jobs.cron")
    assert (ended.exit_code, ended.errors) == (0, "")
    lines = ended.output.splitlines()
    assert len(lines) == 2 * 6
    assert lines[0] == "morning: 0 8 * * 1-5 greet ?id=morning&tz=Europe/Paris&fill=1d"
    assert all(" 08:00 +0" in line and line.endswith("00 Europe/Paris") for line in lines[1:6])
    assert lines[6] == "fail: */15 * * * * fail"
    assert all(line.endswith(" +0000 UTC") for line in lines[7:])


async def test_check_shows_all_that_is_wrong_and_what_is_right_all_the_same(program: Program) -> None:
    program.write("jobs.cron", WRONG)
    ended = await program.run("crontab", "check", "jobs.cron")
    assert ended.exit_code == 1
    assert ended.output.startswith("greet: * * * * * greet\n")
    assert ended.errors == (
        "trio-graphile: the crontab has mistakes (3):\n"
        "jobs.cron:2:1: minute: '60' is not one of 0 to 59\n"
        "    60 * * * * greet ?id=b\n"
        "    ^\n"
        "jobs.cron:3:1: @daily is not understood: write 0 0 * * *\n"
        "    @daily fail\n"
        "    ^\n"
        'jobs.cron:4:24: payload: Unexpected "}": a JSON5 object is needed\n'
        "    * * * * * greet {name: }\n"
        "                           ^\n"
    )


async def test_check_looks_at_tasks_and_payloads_if_it_is_told_where(program: Program) -> None:
    program.write(
        "jobs.cron", "* * * * * great\n* * * * * greet {name: 'ada'}\n* * * * * fail\n* * * * * fail\n"
    )
    ended = await program.run("crontab", "check", "jobs.cron", "--tasks", "shop:tasks")
    assert ended.exit_code == 1
    assert "(3)" in ended.errors
    assert "jobs.cron:4:11: there is an entry 'fail' already in line 3" in ended.errors
    assert "jobs.cron:1:11: no task 'great' is registered; did you mean greet?" in ended.errors
    assert "jobs.cron:2:11: payload of task 'greet': " in ended.errors


async def test_check_speaks_json(program: Program) -> None:
    program.write("jobs.cron", FINE + "* * * * nothing")
    ended = await program.run("crontab", "check", "jobs.cron", "--json")
    assert ended.exit_code == 1
    said = json.loads(ended.output)
    morning, fail = said["entries"]
    assert len(morning.pop("next")) == len(fail.pop("next")) == 5
    assert morning == {
        "identifier": "morning",
        "line": 2,
        "task": "greet",
        "schedule": "0 8 * * 1-5",
        "zone": "Europe/Paris",
        "backfill_period": 86400.0,
        "payload": {"name": "ada"},
        "spec": {"job_key_mode": "replace"},
    }
    [mistake] = said["mistakes"]
    assert (mistake["source"], mistake["line"], mistake["column"]) == ("jobs.cron", 4, 16)


@pytest.mark.parametrize("command", [("crontab", "check"), ("run", "shop:tasks", "--crontab")])
async def test_a_file_that_cannot_be_read_is_wrong_usage(program: Program, command: tuple[str, ...]) -> None:
    (program.folder / "latin.cron").write_bytes(b"# caf\xe9\n")
    for name, reason in {
        "missing.cron": "missing.cron cannot be read: No such file or directory",
        "latin.cron": "latin.cron is not UTF-8, which crontabs are: invalid continuation byte, byte 5",
    }.items():
        ended = await program.run(*command, name)
        assert reason in ended.error
        assert (ended.exit_code, ended.output) == (2, "")


async def test_run_adds_what_is_due(shop: Program, database: Database) -> None:
    """What was missed, so that no test waits for a minute."""
    shop.write("jobs.cron", "* * * * * obey ?id=mine&fill=1h")
    arguments = ("run", "shop:tasks", "--crontab", "jobs.cron", "--cron.missed-limit", "1")
    async with shop.running(*arguments) as running:
        await running.wait_for("; crontab entries: 1; ")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    await database.execute("""
        update graphile_worker._private_known_crontabs
        set last_execution = now() - interval '1 hour'
        where identifier = 'mine'
    """)
    async with shop.running(*arguments) as running:
        await running.wait_for("obey runs")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "obey ends" in running.output


async def test_run_refuses_a_crontab_with_mistakes(program: Program) -> None:
    program.write("jobs.cron", WRONG)
    ended = await program.run("run", "shop:tasks", "--crontab", "jobs.cron")
    assert (ended.exit_code, ended.output) == (1, "")
    assert "the crontab has mistakes (3):\njobs.cron:2:1: " in ended.errors


async def test_run_refuses_a_crontab_that_its_tasks_do_not_fit(shop: Program) -> None:
    shop.write("jobs.cron", "* * * * * greet {name: 'ada'}")
    ended = await shop.run("run", "shop:tasks", "--crontab", "jobs.cron")
    assert (ended.exit_code, ended.output) == (1, "")
    assert "jobs.cron:1:11: payload of task 'greet': " in ended.errors


async def test_once_and_a_crontab_exclude_each_other(program: Program) -> None:
    program.write("jobs.cron", FINE)
    ended = await program.run("run", "shop:tasks", "--once", "--crontab", "jobs.cron")
    assert "--once ends before recurring jobs are due: leave out --crontab" in ended.error
    assert (ended.exit_code, ended.output) == (2, "")


async def test_once_leaves_the_crontab_of_the_settings_alone(shop: Program) -> None:
    shop.write("trio_graphile.toml", 'crontab = "jobs.cron"')
    ended = await shop.run("run", "shop:tasks", "--once")
    assert (ended.exit_code, ended.errors) == (0, "")
