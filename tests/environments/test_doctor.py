"""`trio-graphile doctor`, and what other commands say, where a role or a server keeps something from us."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.program import Program
from tests.environments.roles import Party, url_with_login
from trio_graphile import Client, Database, TaskRegistry, Worker, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres

HIDING = "row level security may hide rows of _private_job_queues, _private_jobs, _private_known_crontabs"
PROGRAM = """
from trio_graphile import TaskRegistry

tasks = TaskRegistry()

@tasks.task("add")
async def add(payload: object) -> None: ...
"""
WITHOUT_POLICY = """
    grant usage on schema graphile_worker to {role};
    grant select, insert, update, delete on all tables in schema graphile_worker to {role};
    grant usage on all sequences in schema graphile_worker to {role};
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
async def party(database: Database, database_url: str) -> AsyncIterator[Party]:
    """A queue of a superuser's, and a role that can log in and do no more."""
    party = Party(database, database_url)
    await database.execute(f"create role {party.login('app')} login password 'sesame'")
    yield party
    await party.drop_roles()


@pytest.fixture
def app(party: Party, program: Program) -> Program:
    """The program as that role."""
    return program.with_environment(DATABASE_URL=url_with_login(party.url, party.login("app")))


async def examine(program: Program, exit_code: int) -> dict[str, Any]:
    ended = await program.run("doctor", "--json")
    assert ended.exit_code == exit_code, ended.errors
    return {finding["check"]: finding for finding in json.loads(ended.output)}


async def test_row_level_security_that_hides_the_jobs_is_said_by_every_command(
    party: Party, app: Program
) -> None:
    role = party.login("app")
    await party.admin.execute(WITHOUT_POLICY.format(role=role))
    await Client(party.admin).add_raw_job("a")
    found = (await examine(app, 1))["rows"]
    assert found["text"].startswith(HIDING)
    assert "trio-graphile roles" in found["advice"]
    for command in ("stats", "workers"):
        ended = await app.run(command)
        assert (ended.exit_code, ended.errors.startswith(f"trio-graphile: {HIDING}")) == (0, True)
    app.write("program.py", PROGRAM)
    assert HIDING in (await app.run("run", "program:tasks", "--once")).errors


async def test_a_worker_with_a_policy_for_some_rows_is_warned_and_one_with_all_is_not(
    party: Party, caplog: pytest.LogCaptureFixture
) -> None:
    role, tables = party.login("app"), ("jobs", "job_queues", "tasks", "known_crontabs")
    await party.admin.execute(WITHOUT_POLICY.format(role=role))
    for condition, is_said in (("true", False), ("priority = 0", True)):
        for table in tables:
            kept = condition if table == "jobs" else "true"
            await party.admin.execute(f"""
                drop policy if exists "ours" on graphile_worker._private_{table};
                create policy "ours" on graphile_worker._private_{table} to {role} using ({kept});
            """)
        async with open_database(url_with_login(party.url, role)) as database:
            await Worker(database, TaskRegistry()).run_once()
        assert ("may hide rows of _private_jobs from this role" in caplog.text) is is_said
    await party.admin.execute(f"""
        drop policy "ours" on graphile_worker._private_jobs;
        create policy "ours" on graphile_worker._private_jobs to {role} using (true);
        create policy "not those" on graphile_worker._private_jobs
          as restrictive to {role} using (priority > 1);
    """)
    caplog.clear()
    async with open_database(url_with_login(party.url, role)) as database:
        await Worker(database, TaskRegistry()).run_once()
    assert "may hide rows of _private_jobs from this role" in caplog.text


async def test_a_role_without_rights_gets_a_whole_report(app: Program) -> None:
    found = await examine(app, 1)
    assert "needs usage on the schema" in found["schema"]["text"]
    assert found.keys() >= {"connection", "version", "role", "clock", "sessions", "vacuum"}
    ended = await app.run("stats")
    assert (ended.exit_code, "needs usage on the schema" in ended.error) == (1, True)


async def test_it_says_that_it_cannot_see_what_other_roles_do(party: Party, app: Program) -> None:
    found = await examine(app, 1)
    assert (found["vacuum"]["level"], found["vacuum"]["advice"]) == (
        "note", "grant pg_read_all_stats to the role"
    )  # fmt: skip
    sessions = int(found["sessions"]["text"].split()[0])
    assert sessions >= 2, "its own are not all"
    await party.admin.execute(f"grant pg_read_all_stats to {party.login('app')}")
    assert (await examine(app, 1))["vacuum"]["text"] == "nothing old holds it back"


async def test_a_role_whose_transactions_are_read_only_is_a_problem(party: Party, app: Program) -> None:
    role = party.login("app")
    await party.admin.execute(f"alter role {role} superuser")
    await party.admin.execute(f"alter role {role} set default_transaction_read_only = on")
    found = (await examine(app, 1))["role"]
    assert (found["level"], "default_transaction_read_only" in found["advice"]) == ("problem", True)


@pytest.fixture
async def standby() -> AsyncIterator[PostgresServer]:
    """A server that takes no writes, as after a backup was restored as a standby."""
    async with embedded_postgres() as server:
        async with open_database(server.url) as database:
            await Client(database).migrate()
        await server.stop()
        (server.directory / "data" / "standby.signal").touch()
        await server.start()
        yield server


async def test_a_standby_is_a_finding_beside_the_others(standby: PostgresServer, program: Program) -> None:
    found = await examine(program.with_environment(DATABASE_URL=standby.url), 1)
    assert found["role"]["text"] == "the server is a standby, where nothing can be written"
    assert "target_session_attrs=read-write" in found["role"]["advice"]
    assert found["schema"]["level"] == "ok"
    assert "notifications" not in found
