"""`trio-graphile run`, on a real server."""

from __future__ import annotations

import signal

import pytest

from tests.cli.program import Program
from tests.support.tables import locks
from trio_graphile import Client, Database, DatabaseOptions, ShutdownReport, open_database
from trio_graphile.cli._working import describe_end

LEFT = """
    select tasks.identifier, jobs.attempts, jobs.last_error, jobs.locked_by
    from graphile_worker._private_jobs as jobs
    join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
"""


async def test_once_runs_what_is_due_and_says_what_became_of_it(shop: Program, database: Database) -> None:
    await Client(database).add_raw_jobs([("greet", "ada"), ("fail", None), ("greet", "grace")])

    ended = await shop.run("run", "shop:tasks", "--once", "--concurrency", "3")

    assert ended.exit_code == 0
    start, *greetings, report = ended.output.splitlines()
    assert "runs greet, fail, obey, resist, block, wait; 3 at once; postgresql://postgres@" in start
    assert start.endswith("schema graphile_worker")
    assert sorted(greetings) == ["greeted ada", "greeted grace"]
    assert "2 completed, 1 failed, 0 given back" in report
    [left] = await database.fetch(LEFT)
    assert left["last_error"].startswith("RuntimeError: as it should (shop:")


def test_the_end_names_each_outcome_that_a_run_had() -> None:
    assert " ended: 0 completed, 0 failed, 0 given back; that " in describe_end(ShutdownReport(worker_id="w"))
    report = ShutdownReport(worker_id="w", completed=1, failed=2, returned=3, snoozed=4, removed=5, lost=6)
    counts = "1 completed, 2 failed, 3 given back, 4 snoozed, 5 removed, 6 lost to other workers"
    assert describe_end(report) == f"w ended: {counts}; that took 0.00 s"


async def test_a_password_is_not_shown(shop: Program, database: Database) -> None:
    await Client(database).add_raw_job("fail")
    ended = await shop.run("run", "shop:tasks", "--once", "--verbose")
    assert ended.exit_code == 0
    assert "sesame" not in ended.output + ended.errors


async def test_sigterm_lets_jobs_finish(shop: Program, database: Database) -> None:
    async with shop.running("run", "shop:tasks") as running:
        await running.wait_for("schema graphile_worker\n")
        await Client(database).add_raw_job("obey")
        await running.wait_for("obey runs")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "obey ends" in running.output
    assert "1 completed, 0 failed, 0 given back" in running.output
    assert await database.fetch(LEFT) == []
    assert not await locks(database)


async def test_the_second_sigint_interrupts_jobs_and_gives_them_back(
    shop: Program, database: Database
) -> None:
    await Client(database).add_raw_job("resist")
    async with shop.running("run", "shop:tasks") as running:
        await running.wait_for("resist runs")
        running.send(signal.SIGINT)
        await running.wait_for("resist goes on")
        running.send(signal.SIGINT)
        assert await running.wait_ended() == 0
    assert "0 completed, 0 failed, 1 given back" in running.output
    assert "Traceback" not in running.output
    (left,) = await database.fetch(LEFT)
    assert dict(left) == {"identifier": "resist", "attempts": 0, "last_error": None, "locked_by": None}
    assert not await locks(database)


async def test_the_grace_period_is_an_option(shop: Program, database: Database) -> None:
    await Client(database).add_raw_job("resist")
    async with shop.running("run", "shop:tasks", "--grace-period", "0") as running:
        await running.wait_for("resist runs")
        running.send(signal.SIGTERM)
        assert await running.wait_ended() == 0
    assert "1 given back" in running.output


async def test_the_schema_is_installed_if_it_is_missing(program: Program, empty_database_url: str) -> None:
    arguments = ("run", "shop:tasks", "--once", "--database-url", empty_database_url)
    ended = await program.run(*arguments, "--schema", "My Jobs")
    assert ended.exit_code == 0
    assert "schema My Jobs\n" in ended.output
    async with open_database(empty_database_url, DatabaseOptions(schema="My Jobs")) as database:
        await Client(database).add_raw_job("greet", "ada")
    again = await program.with_environment(GRAPHILE_WORKER_SCHEMA="My Jobs").run(*arguments)
    assert "greeted ada" in again.output


async def test_embedded_brings_its_own_database(program: Program) -> None:
    unreachable = program.with_environment(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    ended = await unreachable.run("run", "shop:tasks", "--embedded", "--once")
    assert ended.errors == ""
    assert ended.exit_code == 0
    assert "0 completed" in ended.output


BAD_TASKS = {
    "shop": "write MODULE:TASKS, such as app.jobs:tasks",
    "shop:": "write MODULE:TASKS",
    ":tasks": "write MODULE:TASKS",
    "shop.py:tasks": "'shop.py' is no module's name",
    "./shop:tasks": "'./shop' is no module's name",
    "shoq:tasks": "there is no module 'shoq'",
    "shop.more:tasks": "there is no module 'shop.more'",
    "shop:task": "shop:task does not exist; did you mean shop:tasks",
    "shop:greet": "shop:greet is a Task, not a TaskRegistry; did you mean shop:tasks",
    "json:loads": "json:loads is a function, not a TaskRegistry; there is no TaskRegistry in json",
    "shop:no_tasks": "shop:no_tasks has no tasks",
}


@pytest.mark.parametrize("reference", BAD_TASKS)
async def test_tasks_that_are_not_there_are_wrong_usage(program: Program, reference: str) -> None:
    ended = await program.run("run", reference)
    assert ended.error.startswith("trio-graphile: ")
    assert BAD_TASKS[reference] in ended.error
    assert (ended.exit_code, ended.output) == (2, "")


BROKEN = {
    "import no_such_library": "ModuleNotFoundError: No module named 'no_such_library'",
    "from shop import nothing": "ImportError: cannot import name 'nothing' from 'shop'",
    "def": "SyntaxError: invalid syntax (broken.py, line 1)",
    "1 / 0": "ZeroDivisionError: division by zero",
    "import shop\nshop.tasks.task('greet')(shop.fail.handler)": "DuplicateTask: a task 'greet' is registered",
    "import sys\nsys.exit()": "it calls sys.exit()",
    "import sys\nsys.exit(0)": "it calls sys.exit(0)",
    "raise SystemExit('no settings')": "it calls sys.exit('no settings')",
}


@pytest.mark.parametrize("source", BROKEN)
async def test_a_module_that_cannot_be_imported_fails_with_its_own_reason(
    program: Program, source: str
) -> None:
    program.write("broken.py", source)
    ended = await program.run("run", "broken:tasks")
    assert ended.error.startswith("trio-graphile: importing 'broken' failed: ")
    assert BROKEN[source] in ended.error
    assert ended.exit_code == 1


async def test_verbose_shows_where_an_import_failed(program: Program) -> None:
    program.write("broken.py", "\nimport no_such_library")
    ended = await program.run("run", "broken:tasks", "--verbose")
    assert 'broken.py", line 2' in ended.errors
    assert ended.exit_code == 1


BAD_FLAGS = {
    ("--poll-interval", "2000"): "--poll-interval: 2000 seconds are over the maximum",
    ("--poll-interval", "soon"): 'Invalid value for --poll-interval: unable to convert "soon" into float',
    ("--concurrency", "0"): "--concurrency: 0 is not between 1 and",
    ("--grace-period", "-1"): "--grace-period: -1",
    ("--concurency", "3"): "Did you mean --concurrency?",
    ("--embedded", "--database-url", "postgresql:///x"): "--embedded brings a database of its own",
    ("--database-url", "mysql://root:sesame@localhost/x"): "a database URL looks like postgresql://",
    (): "no database is configured",
}


@pytest.mark.parametrize("flags", BAD_FLAGS, ids=" ".join)
async def test_flags_that_cannot_be_right_are_wrong_usage(program: Program, flags: tuple[str, ...]) -> None:
    ended = await program.run("run", "shop:tasks", *flags)
    assert BAD_FLAGS[flags] in ended.error
    assert "sesame" not in ended.error
    assert (ended.exit_code, ended.output) == (2, "")


async def test_a_schema_that_postgres_cannot_name_is_wrong_usage(shop: Program) -> None:
    ended = await shop.run("run", "shop:tasks", "--schema", "x" * 64)
    assert "--schema: 'xxx" in ended.error
    assert (ended.exit_code, ended.output) == (2, "")


async def test_a_server_that_is_down_is_named_without_its_password(program: Program) -> None:
    down = program.with_environment(DATABASE_URL="postgresql://app:sesame@127.0.0.1:1/shop")
    ended = await down.run("run", "shop:tasks")
    assert "cannot reach PostgreSQL at postgresql://app@127.0.0.1:1/shop" in ended.error
    assert "sesame" not in ended.error
    assert (ended.exit_code, ended.output) == (1, "")
    verbose = await down.run("run", "shop:tasks", "--verbose")
    assert "Traceback" in verbose.errors
    assert "sesame" not in verbose.errors


async def test_what_keeps_the_worker_from_starting_is_one_line(shop: Program, database: Database) -> None:
    await database.execute("insert into graphile_worker.migrations (id, breaking) values (99, true)")
    ended = await shop.run("run", "shop:tasks")
    assert "a newer trio_graphile is needed" in ended.error
    assert (ended.exit_code, ended.output) == (57, "")  # supervisors are told not to start it again


async def test_a_database_that_does_not_exist_is_a_failure(program: Program, database_url: str) -> None:
    missing = database_url.replace("trio_graphile_test", "trio_graphile_missing")
    ended = await program.run("run", "shop:tasks", "--database-url", missing)
    assert "does not exist" in ended.error
    assert ended.exit_code == 1


async def test_a_breaking_migration_ends_it_gracefully_with_a_code_of_its_own(
    shop: Program, database: Database
) -> None:
    async with shop.running("run", "shop:tasks") as running:
        await running.wait_for("schema graphile_worker\n")
        await Client(database).add_raw_job("obey")
        await running.wait_for("obey runs")
        await database.execute(
            """select pg_notify('worker:migrate', '{"migrationNumber": 999, "breaking": true}')"""
        )
        assert await running.wait_ended() == 57
    assert "1 completed" in running.output
    assert "install a newer one" in running.output
    assert "Traceback" not in running.output


async def test_a_lane_for_which_something_is_missing_is_not_taken_for_a_flag(shop: Program) -> None:
    shop.write("trio_parallel.py", "raise ModuleNotFoundError")
    shop.write(
        "computing.py",
        "from trio_graphile import TaskRegistry\n"
        "tasks = TaskRegistry()\n"
        "@tasks.task('compute', lane='process')\n"
        "def compute() -> None: ...\n",
    )
    ended = await shop.run("run", "computing:tasks", "--once")
    assert ended.exit_code == 2
    assert ended.error.startswith("trio-graphile: lane: tasks in processes need trio-parallel")
