from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.interop.graphile_worker import GraphileWorker
from tests.support.waiting import wait_until_true
from trio_graphile import Client, Database, TaskRegistry, Worker, open_database

pytestmark = pytest.mark.interop

BREAKING = {1, 3, 11, 13, 14, 16, 19}
PATIENCE = 60.0
"""How many seconds a test waits for what a program of Node may still have to begin."""
COMPLETE = {number: number in BREAKING for number in range(1, 21)}


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as database:
        yield database


async def ledger(database: Database) -> dict[int, bool]:
    rows = await database.fetch("select id, breaking from graphile_worker.migrations")
    return {row["id"]: row["breaking"] for row in rows}


async def assert_usable_by_both(node: GraphileWorker, database: Database, url: str) -> None:
    """Whoever installed it: the ledger is whole, ours is there too, and a job goes from either to either."""
    assert await ledger(database) == COMPLETE
    assert await database.fetch_value("select to_regclass('graphile_worker._private_workers') is not null")
    ran: list[object] = []
    tasks = TaskRegistry()

    @tasks.task("greet")
    async def greet(payload: dict[str, str]) -> None:
        ran.append(payload)

    await Client(database).add_raw_job("succeed")
    await node.run(url, "once.mjs", {})
    assert await database.fetch_value("select count(*) from graphile_worker.jobs") == 0
    await node.run(url, "add.mjs", [["greet", {"to": "ada"}, None]])
    await Worker(database, tasks).run_once()
    assert ran == [{"to": "ada"}]


@asynccontextmanager
async def uncommitted(database: Database, sql: str) -> AsyncIterator[None]:
    """Hold what a statement locks, for the length of the block; then it never happened."""
    async with database.connection() as connection:
        await connection.execute("begin")
        await connection.execute(sql)
        yield  # a session that comes back to its pool is rolled back


async def wait_for_blocked_sessions(database: Database, count: int) -> None:
    """Wait until so many sessions wait for a lock."""
    await wait_until_true(
        database,
        """
        select count(*) >= $1::integer
        from pg_stat_activity
        where datname = current_database()
          and wait_event_type = 'Lock'
        """,
        count,
        patience=PATIENCE,
    )


async def wait_for_ledger_reader(database: Database) -> None:
    """Wait until another session of ours has looked at the ledger."""
    await wait_until_true(
        database,
        """
        select count(*) > 0
        from pg_stat_activity
        where datname = current_database()
          and application_name like 'trio_graphile%'
          and pid <> pg_backend_pid()
          and query ilike '%migrations%'
          and query not ilike '%insert into%'
        """,
        patience=PATIENCE,
    )


async def test_node_accepts_our_schema_and_changes_nothing(
    node: GraphileWorker, database: Database, database_url: str
) -> None:
    printed = await node.run_cli(database_url, "--schema-only")
    assert await ledger(database) == COMPLETE
    warned = "only supports up to revision 19" in printed.stdout + printed.stderr
    assert warned == (node.version == "0.17.3")


async def test_we_take_over_a_schema_that_node_installed(
    node: GraphileWorker, empty: Database, empty_database_url: str
) -> None:
    await node.run_cli(empty_database_url, "--schema-only")
    before = await ledger(empty)
    assert max(before) == (19 if node.version == "0.17.3" else 20)
    await node.run(empty_database_url, "add.mjs", [["succeed", {"kept": True}, None]])

    await Client(empty).migrate()

    jobs = "select payload::text from graphile_worker._private_jobs"
    assert await empty.fetch_value(jobs) == '{"kept":true}'
    await assert_usable_by_both(node, empty, empty_database_url)


@pytest.mark.parametrize("first", ["python", "node"])
async def test_two_installers_start_at_once(
    node: GraphileWorker, empty: Database, empty_database_url: str, first: str
) -> None:
    """Both find nothing and are about to create the schema. PostgreSQL lets who came first go first."""
    async with trio.open_nursery() as nursery:
        installers = {
            "python": Client(empty).migrate,
            "node": lambda: node.run(empty_database_url, "migrate.mjs"),
        }
        async with uncommitted(empty, "create schema graphile_worker"):
            nursery.start_soon(installers.pop(first))
            await wait_for_blocked_sessions(empty, 1)
            (second,) = installers.values()
            nursery.start_soon(second)
            await wait_for_blocked_sessions(empty, 2)
    await assert_usable_by_both(node, empty, empty_database_url)


async def test_we_come_while_node_is_halfway(
    node: GraphileWorker, empty: Database, empty_database_url: str
) -> None:
    """Its migrations are committed one by one, so a half of them can be seen."""
    await empty.execute("""
        create schema graphile_worker;
        create table graphile_worker.migrations (
          id integer primary key,
          ts timestamptz not null default now(),
          breaking boolean not null default false
        )
    """)
    async with (
        trio.open_nursery() as nursery,
        uncommitted(empty, "insert into graphile_worker.migrations (id) values (12)"),
    ):
        nursery.start_soon(node.run, empty_database_url, "migrate.mjs")
        await wait_for_blocked_sessions(empty, 1)
        assert max(await ledger(empty)) == 11
        nursery.start_soon(Client(empty).migrate)
        await wait_for_ledger_reader(empty)
    await assert_usable_by_both(node, empty, empty_database_url)


async def test_node_comes_while_we_are_halfway(
    node: GraphileWorker, empty: Database, empty_database_url: str
) -> None:
    """We install in one transaction: Node sees nothing until all is there."""
    await empty.execute("create schema graphile_worker")
    async with (
        trio.open_nursery() as nursery,
        uncommitted(empty, "create table graphile_worker._private_tasks ()"),
    ):
        nursery.start_soon(Client(empty).migrate)
        await wait_for_blocked_sessions(empty, 1)
        nursery.start_soon(node.run, empty_database_url, "migrate.mjs")
        await wait_for_blocked_sessions(empty, 2)
    await assert_usable_by_both(node, empty, empty_database_url)
