"""Tasks that are executable files."""

from __future__ import annotations

import signal
from datetime import UTC, datetime

from tests.cli.program import Program
from trio_graphile import Client, Database, JobSpec

LEFT = """
    select tasks.identifier, jobs.attempts, jobs.last_error, jobs.locked_by
    from graphile_worker._private_jobs as jobs
    join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
"""
FLAGS = ("run", "shop:tasks", "--executables", "scripts")


def script(program: Program, name: str, source: str, *, mode: int = 0o755) -> None:
    path = program.folder / "scripts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{source}\n")
    path.chmod(mode)


async def test_it_gets_the_payload_and_is_told_of_its_job(shop: Program, database: Database) -> None:
    script(shop, "reports/daily.sh", "cat >> payload; env | grep ^GRAPHILE_WORKER_ | sort >> told; echo fine")
    job = await Client(database).add_raw_job(
        "reports/daily",
        {"day": "ä"},
        JobSpec(job_key="k", priority=3, max_attempts=4, run_at=datetime(2020, 1, 1, tzinfo=UTC)),
    )
    ended = await shop.run(*FLAGS, "--once")
    assert ended.exit_code == 0
    assert "reports/daily; " in ended.output
    assert (shop.folder / "payload").read_text() == '{"payload":{"day":"ä"}}'
    assert (shop.folder / "told").read_text().splitlines() == [
        "GRAPHILE_WORKER_JOB_ATTEMPTS=1",
        f"GRAPHILE_WORKER_JOB_ID={job.id}",
        "GRAPHILE_WORKER_JOB_KEY=k",
        "GRAPHILE_WORKER_JOB_MAX_ATTEMPTS=4",
        "GRAPHILE_WORKER_JOB_PRIORITY=3",
        "GRAPHILE_WORKER_JOB_RUN_AT=2020-01-01T00:00:00+00:00",
        "GRAPHILE_WORKER_PAYLOAD_FORMAT=json",
        "GRAPHILE_WORKER_TASK_IDENTIFIER=reports/daily",
    ]
    assert ended.error.endswith("INFO trio_graphile.job: fine"), "no word of others at this level"
    assert await database.fetch(LEFT) == []


async def test_whatever_does_not_end_with_0_has_failed(shop: Program, database: Database) -> None:
    script(shop, "three", "echo no disk >&2; exit 3")
    script(shop, "killed", "kill -9 $$")
    script(shop, "deaf", "exec <&-; exit 1")
    for name, text in {"nonsense": "#! /no/such/sh -e\n", "windows": "#!/bin/sh\r\n", "bare": "exit"}.items():
        path = shop.folder / "scripts" / name
        path.write_bytes(text.encode())
        path.chmod(0o755)
    names = ["three", "killed", "deaf", "nonsense", "windows", "bare"]
    await Client(database).add_raw_jobs([(name, "x" * 200_000) for name in names])
    ended = await shop.run(*FLAGS, "--once")
    assert "0 completed, 6 failed" in ended.output
    errors = {row["identifier"]: row["last_error"] for row in await database.fetch(LEFT)}
    assert "three ended with 3\nno disk" in errors["three"]
    assert "killed was killed by SIGKILL" in errors["killed"]
    assert "deaf ended with 1" in errors["deaf"]
    assert "nonsense cannot be executed: its interpreter /no/such/sh does not exist" in errors["nonsense"]
    assert r"cannot be executed: its first line, '#!/bin/sh\r', has the line end of W" in errors["windows"]
    assert "bare cannot be executed: its first line does not name an interpreter" in errors["bare"]
    assert "ERROR trio_graphile.job: no disk" in ended.errors


async def test_without_a_key_it_is_told_of_none(shop: Program, database: Database) -> None:
    script(shop, "keyless", "env | grep -c JOB_KEY > told")
    await Client(database).add_raw_job("keyless")
    inherited = shop.with_environment(GRAPHILE_WORKER_JOB_KEY="of another job")
    await inherited.run(*FLAGS, "--once")
    assert (shop.folder / "told").read_text() == "0\n"


async def test_what_it_leaves_in_the_background_ends_with_it(shop: Program, database: Database) -> None:
    script(shop, "leaving", "sleep 600 & echo $! > pid; echo said")
    await Client(database).add_raw_job("leaving")
    ended = await shop.run(*FLAGS, "--once", "--verbose")
    assert "1 completed" in ended.output
    assert "trio_graphile.job: said" in ended.errors
    assert not shop.is_alive(int((shop.folder / "pid").read_text()))


async def test_what_may_not_be_executed_is_no_task(shop: Program) -> None:
    script(shop, "plain.sh", "exit", mode=0o644)
    script(shop, "od:d.sh", "exit")
    script(shop, ".hidden", "exit")
    ended = await shop.run(*FLAGS, "--once")
    assert "runs greet, fail, obey, resist, block, wait; " in ended.output
    plain, odd = sorted(ended.errors.splitlines(), reverse=True)
    assert "scripts/plain.sh is no task: its owner may not execute it (chmod u+x)" in plain
    assert "scripts/od:d.sh is no task: names are made of" in odd


async def test_one_that_runs_too_long_is_ended_and_its_job_goes_back(
    shop: Program, database: Database
) -> None:
    script(
        shop, "long", "trap 'echo terminated' TERM; echo $$ > pid; echo runs; while :; do sleep 0.05; done"
    )
    async with shop.running(*FLAGS, "--verbose", "--grace-period", "0") as running:
        await running.wait_for("schema graphile_worker\n")
        await Client(database).add_raw_job("long")
        await running.wait_for("trio_graphile.job: runs")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "1 given back" in running.output
    [left] = await database.fetch(LEFT)
    assert dict(left) == {"identifier": "long", "attempts": 0, "last_error": None, "locked_by": None}
    assert not shop.is_alive(int((shop.folder / "pid").read_text()))


async def test_it_may_finish_within_the_grace_period(shop: Program, database: Database) -> None:
    """Ctrl-C, which a terminal sends to the whole group, does not reach it."""
    script(shop, "brief", "echo runs; while ! [ -e go ]; do sleep 0.02; done; echo done")
    async with shop.running(*FLAGS, "--verbose") as running:
        await running.wait_for("schema graphile_worker\n")
        await Client(database).add_raw_job("brief")
        await running.wait_for("trio_graphile.job: runs")
        running.send(signal.SIGINT)
        shop.write("go", "")
        assert await running.wait_ended() == 0
    assert "1 completed" in running.output


async def test_two_of_one_name_and_a_folder_that_is_none_are_wrong_usage(program: Program) -> None:
    missing = await program.run(*FLAGS)
    assert "--executables: scripts is no folder" in missing.error
    script(program, "greet.sh", "exit")
    twice = await program.run(*FLAGS)
    assert "scripts/greet.sh: there is a task 'greet' already" in twice.error
    assert (missing.exit_code, twice.exit_code) == (2, 2)
