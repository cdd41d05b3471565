"""Installing the schema: from nothing, again, at once, over what others left, and when better not."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest
import trio

from tests.database.sessions import heard, wait_until_somebody_waits
from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.database import Database, open_database
from trio_graphile._database.schema import (
    InstallTimeouts,
    MigrationReport,
    check_schema,
    migrate,
    own_migrations,
    require_schema,
)
from trio_graphile._database.schema_plan import SchemaState, check_server, plan_migration
from trio_graphile._database.statement import quote_identifier
from trio_graphile._exceptions import (
    MigrationFailed,
    PostgresTooOld,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
)
from trio_graphile._model.options import DatabaseOptions

SCHEMA = "graphile_worker"
EVERY_REVISION = tuple(range(1, 21))
OURS = tuple(migration.id for migration in own_migrations())
HASTY = InstallTimeouts(limit=0.2, quiet_period=0.05)


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(empty_database_url) as database:
        yield database


async def install(
    database: Database, schema: str = SCHEMA, timeouts: InstallTimeouts | None = None
) -> MigrationReport:
    async with database.connection() as connection:
        return await migrate(connection, schema, timeouts=timeouts)


async def shared_migrations(database: Database, schema: str = SCHEMA) -> dict[int, bool]:
    rows = await database.fetch(f"select id, breaking from {quote_identifier(schema)}.migrations order by id")
    return {row["id"]: row["breaking"] for row in rows}


async def own_migrations_applied(database: Database) -> list[int]:
    rows = await database.fetch("select id from graphile_worker.trio_graphile_migrations order by id")
    return [row["id"] for row in rows]


async def become(database: Database, revision: int, *, recovery: bool = False) -> None:
    """Turn our schema into what another program leaves at a revision; the tables are the same."""
    await database.execute("""
        drop table graphile_worker.trio_graphile_migrations;
        drop index graphile_worker.trio_graphile_queue_index;
    """)
    await database.execute("delete from graphile_worker.migrations where id > $1::integer", revision)
    if not recovery:
        await database.execute("""
            drop function graphile_worker.worker_heartbeat, graphile_worker.worker_deregister,
              graphile_worker.list_stale_workers, graphile_worker.list_orphan_locked_workers,
              graphile_worker.recover_dead_worker_jobs, graphile_worker.delete_stale_workers;
            drop table graphile_worker._private_workers;
        """)


THEIRS = ("force_unlock_workers", "recover_dead_worker_jobs")


async def become_newer(executor: Executor, revision: int, *, recovery: bool = True) -> None:
    """Have another program replace functions, and go beyond the revisions that we install."""
    await executor.execute(
        "insert into graphile_worker.migrations (id) select generate_series(21, $1::integer)", revision
    )
    await executor.execute("""
        create or replace function graphile_worker.force_unlock_workers(worker_ids text[])
        returns void language sql as 'select';
    """)
    if recovery:
        await executor.execute("""
            drop function graphile_worker.recover_dead_worker_jobs;
            create function graphile_worker.recover_dead_worker_jobs(
              worker_ids text[], recovery_delay interval default '00:00:00'::interval
            )
            returns integer language sql as 'select 0';
        """)


async def catalog(database: Database) -> set[tuple[Any, ...]]:
    """Everything by which one schema could differ from another."""
    rows = await database.fetch("""
        select 'relation', relname::text, relkind::text, null
        from pg_class
        where relnamespace = 'graphile_worker'::regnamespace
        union all
        select 'column', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod)
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        where relnamespace = 'graphile_worker'::regnamespace and attnum > 0
        union all
        select 'function', proname::text, pg_get_function_arguments(oid), prosrc
        from pg_proc
        where pronamespace = 'graphile_worker'::regnamespace
    """)
    return {tuple(row.values()) for row in rows}


@attrs.define
class Watched:
    """A connection that counts the statements run on it and tells when there were enough."""

    connection: Connection
    enough: int = 1_000_000
    statements: list[str] = attrs.field(factory=list)
    reached: trio.Event = attrs.field(factory=trio.Event)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.connection, name)
        if name not in {"fetch", "fetch_row", "fetch_value", "execute"}:
            return method

        def run(sql: Any, *arguments: object) -> Any:
            self.statements.append(str(sql))
            if len(self.statements) == self.enough:
                self.reached.set()
            return method(sql, *arguments)

        return run


# --- from nothing -------------------------------------------------------------------------------


async def test_an_empty_database_gets_everything(empty: Database) -> None:
    report = await install(empty)
    assert report.found == SchemaState(
        server_version=report.found.server_version,
        schema_exists=False,
        migrations_exist=False,
        breaking_exists=False,
    )
    assert (report.revisions, report.applied, report.warning) == (EVERY_REVISION, OURS, None)
    assert list(await shared_migrations(empty)) == list(EVERY_REVISION)
    await require_schema(empty, SCHEMA)


async def test_a_fresh_schema_is_announced_to_nobody(empty: Database) -> None:
    async with heard(empty, "worker:migrate") as payloads:
        await install(empty)
    assert payloads == []


async def test_a_second_run_changes_nothing_and_asks_once(database: Database) -> None:
    before = await catalog(database)
    async with database.connection() as connection:
        watched = Watched(connection)
        report = await migrate(watched, SCHEMA)  # type: ignore[arg-type]
    assert len(watched.statements) == 1
    assert (report.revisions, report.applied, report.warning) == ((), (), None)
    assert (report.found.revision, report.found.breaking_revision) == (20, 19)
    assert report.found.applied == set(OURS)
    assert await catalog(database) == before


async def test_of_eight_installers_one_installs_and_all_succeed(empty: Database) -> None:
    reports: list[MigrationReport] = []

    async def one() -> None:
        reports.append(await install(empty))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(one)
    assert sorted(report.applied for report in reports) == [()] * 7 + [OURS]
    assert list(await shared_migrations(empty)) == list(EVERY_REVISION)


async def test_a_schema_that_the_administrator_made_is_filled(empty: Database) -> None:
    await empty.execute("create schema graphile_worker")
    report = await install(empty)
    assert report.applied == OURS


async def test_an_empty_table_of_two_columns_gets_its_third(empty: Database) -> None:
    await empty.execute("""
        create schema graphile_worker;
        create table graphile_worker.migrations (
          id integer primary key,
          ts timestamptz not null default now()
        );
    """)
    report = await install(empty)
    assert report.applied == OURS
    assert [revision for revision, breaking in (await shared_migrations(empty)).items() if breaking] == [
        1,
        3,
        11,
        13,
        14,
        16,
        19,
    ]


@pytest.mark.parametrize(
    "schema",
    ["Mixed", "with-hyphen", "with space", 'dou"ble', "sing'le", "$$", "{}", "select", "ümläut", "x" * 63],
)
async def test_any_name_will_do_for_the_schema(empty_database_url: str, schema: str) -> None:
    quoted = quote_identifier(schema)
    async with open_database(empty_database_url, DatabaseOptions(schema=schema)) as database:
        await install(database, schema)
        assert (await install(database, schema)).applied == ()
        rows = await database.fetch(f"""
            select jobs.key
            from {quoted}.add_jobs(array[
              row('a', null, 'q', null, null, 'one', null, null),
              row('a', null, null, null, null, 'two', null, null)
            ]::{quoted}.job_spec[]) as jobs
        """)
        assert [row["key"] for row in rows] == ["one", "two"]


async def test_two_schemas_live_in_one_database(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        await install(database, "one")
        await install(database, "two")
        await database.execute("select one.add_job('a')")
        assert await database.fetch_value("select count(*) from one.jobs") == 1
        assert await database.fetch_value("select count(*) from two.jobs") == 0


# --- over what others left ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revision", "recovery", "announced"),
    [
        pytest.param(18, False, [(19, True), (20, False)], id="revision 18"),
        pytest.param(19, False, [(20, False)], id="revision 19"),
        pytest.param(20, False, [], id="revision 20 of Node"),
        pytest.param(20, True, [], id="revision 20 of Rust"),
    ],
)
async def test_a_schema_from_revision_18_on_is_taken_over_with_its_jobs(
    database: Database, revision: int, *, recovery: bool, announced: list[tuple[int, bool]]
) -> None:
    fresh = await catalog(database)
    await become(database, revision, recovery=recovery)
    # Their functions do something else; ours must take their place.
    await database.execute("""
        create or replace function graphile_worker.force_unlock_workers(worker_ids text[])
        returns void language sql as 'select';
        insert into graphile_worker._private_tasks (identifier) values ('a');
        insert into graphile_worker._private_jobs (task_id, key) values (1, 'theirs');
    """)
    async with heard(database, "worker:migrate") as payloads:
        report = await install(database)
    assert report.found.revision == revision
    assert report.revisions == EVERY_REVISION[revision:]
    assert report.applied == OURS
    assert [(p["migrationNumber"], p["breaking"]) for p in map(json.loads, payloads)] == announced
    assert await catalog(database) == fresh
    assert await database.fetch_value("select key from graphile_worker.jobs") == "theirs"
    assert (await install(database)).applied == ()


async def test_a_revision_19_that_is_not_breaking_stays_so(database: Database) -> None:
    """It is Rust's; marked as breaking it would lock out their older workers."""
    await become(database, 19)
    await database.execute("update graphile_worker.migrations set breaking = false where id = 19")
    await install(database)
    assert not (await shared_migrations(database))[19]


@pytest.mark.parametrize("revision", [22, 99])
async def test_beyond_20_ours_is_added_and_their_functions_stay(
    database: Database, revision: int, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = await catalog(database)
    await become(database, 20, recovery=True)
    await become_newer(database, revision)
    with caplog.at_level(logging.WARNING, logger="trio_graphile"):
        report = await install(database)
    assert (report.revisions, report.applied, report.warning) == ((), OURS, None)
    assert caplog.messages == []
    assert max(await shared_migrations(database)) == revision
    differing = await catalog(database) ^ fresh
    assert {name for kind, name, *_ in differing} == set(THEIRS)
    assert {source for *_, source in differing if source is not None} >= {"select"}
    assert (await install(database)).applied == ()


async def test_beyond_20_recovery_is_added_where_it_is_missing(database: Database) -> None:
    fresh = await catalog(database)
    await become(database, 20)
    await become_newer(database, 21, recovery=False)
    await install(database)
    assert {name for _, name, *_ in await catalog(database) ^ fresh} == {"force_unlock_workers"}


async def test_a_newer_revision_over_ours_changes_nothing_of_ours(database: Database) -> None:
    await become_newer(database, 22)
    before = await catalog(database)
    report = await install(database)
    assert (report.revisions, report.applied, report.warning) == ((), (), None)
    assert await catalog(database) == before


async def test_who_is_installing_a_newer_revision_keeps_its_functions(database: Database) -> None:
    """They have replaced a function, and not committed yet, when we come."""
    await become(database, 20, recovery=True)
    reports: list[MigrationReport] = []

    async def run() -> None:
        reports.append(await install(database))

    async with trio.open_nursery() as nursery, database.connection() as theirs:
        await theirs.execute("begin")
        await become_newer(theirs, 22)
        nursery.start_soon(run)
        await wait_until_somebody_waits(database)
        await theirs.execute("commit")
    assert [report.applied for report in reports] == [OURS]
    sources = {name: source for kind, name, _, source in await catalog(database) if kind == "function"}
    assert [sources[name] for name in THEIRS] == ["select", "select 0"]


async def test_only_what_is_missing_of_ours_is_applied(database: Database) -> None:
    fresh = await catalog(database)
    await database.execute("""
        delete from graphile_worker.trio_graphile_migrations where id = 4;
        drop index graphile_worker.trio_graphile_queue_index;
    """)
    report = await install(database)
    assert (report.revisions, report.applied) == ((), (4,))
    assert await catalog(database) == fresh


@pytest.mark.parametrize("revision", [1, 10, 17])
async def test_an_older_schema_is_refused_untouched_and_the_tool_for_it_named(
    database: Database, revision: int
) -> None:
    await become(database, revision)
    before = await catalog(database)
    with pytest.raises(SchemaTooOld, match=rf"revision {revision}\b.*npx graphile-worker --schema-only"):
        await install(database, timeouts=HASTY)
    assert await catalog(database) == before
    with pytest.raises(SchemaTooOld):
        await require_schema(database, SCHEMA)


async def test_a_very_old_table_of_two_columns_is_refused(empty: Database) -> None:
    await empty.execute("""
        create schema graphile_worker;
        create table graphile_worker.migrations (id integer primary key, ts timestamptz default now());
        insert into graphile_worker.migrations (id) values (1), (2);
    """)
    with pytest.raises(SchemaTooOld, match="revision 2"):
        await install(empty, timeouts=HASTY)


async def test_somebody_in_the_middle_of_migrating_is_waited_for(database: Database) -> None:
    await become(database, 10)
    async with (
        database.connection() as theirs,
        database.connection() as ours,
        trio.open_nursery() as nursery,
    ):
        watched = Watched(ours, enough=20)
        reports: list[MigrationReport] = []

        async def run() -> None:
            # Far more statements are run than fit into the quiet period: it does not end while they write.
            timeouts = InstallTimeouts(limit=20, quiet_period=0.01)
            reports.append(await migrate(watched, SCHEMA, timeouts=timeouts))  # type: ignore[arg-type]

        async with theirs.transaction():
            await theirs.execute("insert into graphile_worker.migrations (id) values (11)")
            nursery.start_soon(run)
            with trio.fail_after(10):
                await watched.reached.wait()
            await theirs.execute("insert into graphile_worker.migrations (id) select generate_series(12, 19)")
    assert [(report.revisions, report.applied) for report in reports] == [((20,), OURS)]


async def test_somebody_who_begins_to_migrate_when_we_do_is_waited_for(database: Database) -> None:
    await database.execute("delete from graphile_worker.migrations")
    await database.execute("delete from graphile_worker.trio_graphile_migrations")
    reports: list[MigrationReport] = []

    async def run() -> None:
        reports.append(await install(database))

    async with trio.open_nursery() as nursery, database.connection() as theirs:
        async with theirs.transaction():
            await theirs.execute("insert into graphile_worker.migrations (id) values (1), (2)")
            nursery.start_soon(run)
            await wait_until_somebody_waits(database)
        # We have the table locked until we have seen that.
        await theirs.execute("insert into graphile_worker.migrations (id) select generate_series(3, 19)")
    assert [(report.revisions, report.applied) for report in reports] == [((20,), OURS)]


@pytest.mark.parametrize(("ending", "revision"), [("commit", 20), ("rollback", None)])
async def test_another_program_that_installs_meanwhile_is_waited_for(
    empty: Database, ending: str, revision: int | None
) -> None:
    reports: list[MigrationReport] = []

    async def run() -> None:
        reports.append(await install(empty))

    async with trio.open_nursery() as nursery, empty.connection() as theirs:
        await theirs.execute("""
            begin;
            create schema graphile_worker;
            create table graphile_worker.migrations (
              id integer constraint migrations_pkey primary key,
              ts timestamptz not null default now(),
              breaking boolean not null default false
            );
            insert into graphile_worker.migrations (id) select generate_series(1, 20);
        """)
        for migration in own_migrations()[:2]:
            await theirs.execute(migration.statement)
        nursery.start_soon(run)
        await wait_until_somebody_waits(empty)
        await theirs.execute(ending)
    assert [report.applied for report in reports] == [OURS]
    assert [report.found.revision for report in reports] == [revision]
    await require_schema(empty, SCHEMA)


# --- when better not ----------------------------------------------------------------------------


async def test_a_newer_breaking_revision_is_refused(database: Database) -> None:
    await database.execute(
        "insert into graphile_worker.migrations (id, breaking) values (21, true), (22, false)"
    )
    with pytest.raises(SchemaTooNew, match="revision 21"):
        await install(database)


async def test_a_newer_table_of_ours_is_a_warning(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute("insert into graphile_worker.trio_graphile_migrations (id) values (99)")
    with caplog.at_level(logging.WARNING, logger="trio_graphile"):
        report = await install(database)
    assert report.applied == ()
    [message] = caplog.messages
    assert "99" in message


async def test_what_cannot_be_installed_leaves_nothing_behind(empty: Database) -> None:
    await empty.execute(
        "create schema graphile_worker; create table graphile_worker._private_jobs (id integer)"
    )
    before = await catalog(empty)
    with pytest.raises(MigrationFailed, match="_private_jobs") as caught:
        await install(empty, timeouts=HASTY)
    assert caught.value.__cause__ is not None
    assert await catalog(empty) == before


async def test_without_the_schema_one_is_told_how_to_get_it(empty: Database) -> None:
    with pytest.raises(SchemaMissing, match="migrate"):
        await require_schema(empty, SCHEMA)
    assert (await check_schema(empty, SCHEMA)).revision is None


# --- pure ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "named"), [(90_624, "9.6"), (120_022, "12.22"), (100_000, "10.0")])
def test_a_server_before_13_is_refused(version: int, named: str) -> None:
    with pytest.raises(PostgresTooOld, match=rf"13 or newer.* {named}$"):
        check_server(version)


@pytest.mark.parametrize("version", [130_000, 180_006])
def test_a_server_from_13_on_is_accepted(version: int) -> None:
    check_server(version)


@pytest.mark.parametrize(
    ("revision", "applied", "revisions", "scripts", "recorded"),
    [
        (None, [], EVERY_REVISION, OURS, OURS),
        (18, [], (19, 20), OURS[1:], OURS),
        (20, [], (), OURS[1:], OURS),
        (20, OURS, (), (), ()),
        (20, OURS[:-1], (), OURS[-1:], OURS[-1:]),
        (19, OURS, (20,), (), ()),
        (22, [], (), OURS[2:], OURS),
        (22, OURS[:-1], (), OURS[-1:], OURS[-1:]),
        (99, OURS, (), (), ()),
    ],
)
def test_a_plan_has_what_is_missing(
    revision: int | None,
    applied: Sequence[int],
    revisions: tuple[int, ...],
    scripts: tuple[int, ...],
    recorded: tuple[int, ...],
) -> None:
    state = SchemaState(server_version=150_000, revision=revision, applied=frozenset(applied))
    plan = plan_migration(state, own_migrations())
    assert (plan.revisions, plan.recorded) == (revisions, recorded)
    assert tuple(script.id for script in plan.scripts) == scripts
    assert plan.is_empty == (not revisions and not recorded)


def test_migrations_are_numbered_without_gaps() -> None:
    assert list(OURS) == list(range(1, len(OURS) + 1))


def test_beyond_20_no_file_makes_what_others_have_too() -> None:
    state = SchemaState(server_version=150_000, revision=22, recovery_exists=True)
    made = re.compile(
        r"^create (?:or replace )?(?:function|table|type|view|index)(?: if not exists)? (\S+)", re.MULTILINE
    )
    for migration in plan_migration(state, own_migrations()).scripts:
        names = [name.removeprefix("{schema}.") for name in made.findall(migration.statement.text)]
        assert names, migration.name
        assert all(name.startswith("trio_graphile_") for name in names), names


def test_the_schema_is_the_only_placeholder() -> None:
    placeholders = {p for m in own_migrations() for p in re.findall(r"\{\w+\}", m.statement.text)}
    assert placeholders == {"{schema}"}
