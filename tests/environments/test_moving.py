"""A queue that moves: dumped and restored, replicated logically, and taken along by pg_upgrade."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from tests.environments.versions import OLDEST, SERVERS, major_of
from tests.faults.load import check_nothing_locked, drain
from tests.support.documents import DOCS, blocks
from tests.support.handlers import Handlers
from tests.support.waiting import PATIENCE, wait_until_true
from tests.support.workers import running
from trio_graphile import (
    Client,
    Database,
    JobSpec,
    LeaseOptions,
    RecoveryOptions,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres, find_binaries
from trio_graphile.embedded._installation import choose_installation

PROGRAMS = find_binaries()
FAST = WorkerOptions(
    concurrency=4,
    poll_interval=0.1,
    lease=LeaseOptions(length=2.0),
    recovery=RecoveryOptions(sweep_threshold=2.0, sweep_interval=0.2, recovery_delay=0.0),
)
SPECS = [
    JobSpec(),
    JobSpec(queue_name="one after the other"),
    JobSpec(queue_name="one after the other"),
    JobSpec(job_key="only one", priority=3, flags=["a", "b"]),
    JobSpec(run_at=datetime(2200, 1, 1, tzinfo=UTC)),
]


needs_dump = pytest.mark.skipif(
    not (PROGRAMS / "pg_dump").exists(), reason=f"there is no pg_dump in {PROGRAMS}"
)


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    settings = {"wal_level": "logical", "max_connections": "60"}
    async with embedded_postgres(settings=settings, tcp_port=0) as server:
        yield server


async def fill(database: Database, handlers: Handlers) -> None:
    """Add jobs of all kinds, one of which failed, and one of which a worker holds that is gone."""
    client = Client(database, handlers.tasks)
    await client.migrate()
    await client.add_raw_job("failing", spec=JobSpec(max_attempts=1))
    await Worker(database, handlers.tasks).run_once()
    await client.add_raw_jobs([("quick", None, spec) for spec in SPECS])
    [held] = await client.add_raw_jobs([("quick", None, JobSpec(queue_name="held"))])
    await database.execute(HOLD, held.id)


HOLD = """
    with held as (
      update graphile_worker._private_jobs
      set locked_by = 'trio_graphile_gone', locked_at = now() - interval '1 day', attempts = 1
      where id = $1::bigint
      returning job_queue_id
    )
    update graphile_worker._private_job_queues
    set locked_by = 'trio_graphile_gone', locked_at = now() - interval '1 day'
    where id in (select job_queue_id from held)
"""
FORGET_FAILED = "delete from graphile_worker._private_jobs where attempts = max_attempts"
ALL_ROWS = """
    select to_jsonb(jobs) as job
    from graphile_worker._private_jobs as jobs
    order by id
"""


async def run_rest(database: Database, handlers: Handlers) -> None:
    """Run all that is there, also what is due later or was held; afterwards nothing is left."""
    client = Client(database, handlers.tasks)
    assert not (await client.migrate()).applied
    await database.execute(FORGET_FAILED)
    handlers.ended.clear()
    ids = {row["id"] for row in await database.fetch("select id from graphile_worker._private_jobs")}
    assert len(ids) > len(SPECS)
    async with running(Worker(database, handlers.tasks, FAST)):
        await drain(database)
        new = await client.add_raw_job("quick", spec=JobSpec(queue_name="made there"))
        await handlers.wait_ended(len(ids) + 1)
    assert {job.id for job in handlers.ended} == {*ids, new.id}
    await check_nothing_locked(database)


async def run_program(*words: object, cwd: Path | None = None) -> None:
    command = [str(word) for word in words]
    done = await trio.run_process(
        command, check=False, capture_stdout=True, stderr=subprocess.STDOUT, cwd=cwd
    )
    assert done.returncode == 0, done.stdout.decode()


@needs_dump
@pytest.mark.parametrize("shape", ["plain", "custom"])
async def test_a_queue_that_is_dumped_and_restored_is_the_same(
    server: PostgresServer, handlers: Handlers, tmp_path: Path, shape: str
) -> None:
    async with open_database(server.url) as database:
        await fill(database, handlers)
        before = await database.fetch(ALL_ROWS)
        await database.execute("create database restored template template0")
    dump = tmp_path / "dump"
    await run_program(PROGRAMS / "pg_dump", f"--format={shape}", f"--file={dump}", server.url)
    restored = server.url_for("restored")
    if shape == "plain":
        await run_program(PROGRAMS / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, restored)
    else:
        await run_program(PROGRAMS / "pg_restore", "--exit-on-error", "-d", restored, dump)
    async with open_database(restored) as database:
        assert await database.fetch(ALL_ROWS) == before
        await run_rest(database, handlers)


@needs_dump
async def test_a_copy_without_jobs_can_be_used(
    server: PostgresServer, handlers: Handlers, tmp_path: Path
) -> None:
    """By the command of the page, which leaves jobs out, and no rows of the migrations."""
    [command] = re.findall(
        r"^pg_dump (.+) \.\.\.$", (DOCS / "operations" / "backups.md").read_text(), re.MULTILINE
    )
    async with open_database(server.url) as database:
        await fill(database, handlers)
        await database.execute("create database copied template template0")
    dump, copied = tmp_path / "dump", server.url_for("copied")
    await run_program(PROGRAMS / "pg_dump", *shlex.split(command), f"--file={dump}", server.url)
    await run_program(PROGRAMS / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, copied)
    async with open_database(copied) as database:
        client = Client(database, handlers.tasks)
        assert not (await client.migrate()).applied
        assert await database.fetch(ALL_ROWS) == []
        await client.add_raw_job("quick", spec=JobSpec(queue_name="held"))
        assert (await Worker(database, handlers.tasks).run_once()).completed == 1


async def test_a_queue_moves_by_logical_replication(server: PostgresServer, handlers: Handlers) -> None:
    """Sequences stay behind, so they are set before the new database takes jobs."""
    async with open_database(server.url) as old:
        await fill(old, handlers)
        await old.execute("create publication queue for tables in schema graphile_worker")
        await old.execute("select pg_create_logical_replication_slot('queue', 'pgoutput')")
        await old.execute("create database elsewhere template template0")
        async with open_database(server.url_for("elsewhere")) as new:
            await Client(new, handlers.tasks).migrate()
            await new.execute(EMPTY)
            await new.execute(SUBSCRIBE.format(port=server.tcp_port))
            await wait_until_true(new, COPIED)
            # Whatever is run and added meanwhile comes along.
            await Worker(old, handlers.tasks).run_once()
            await Client(old, handlers.tasks).add_raw_jobs([("quick", None, spec) for spec in SPECS])
            with trio.fail_after(PATIENCE):
                while await new.fetch(ALL_ROWS) != await old.fetch(ALL_ROWS):
                    pass
            for step in ("disable", "set (slot_name = none)"):
                await new.execute(f"alter subscription queue {step}")
            await new.execute("drop subscription queue")
            [set_sequences] = blocks(DOCS / "operations" / "upgrades.md", "sql")
            await new.execute(set_sequences)
            await run_rest(new, handlers)


EMPTY = "truncate graphile_worker.migrations, graphile_worker.trio_graphile_migrations"
SUBSCRIBE = """
    create subscription queue
    connection 'host=127.0.0.1 port={port} user=postgres dbname=postgres'
    publication queue
    with (create_slot = false, slot_name = 'queue')
"""
COPIED = "select bool_and(srsubstate = 'r') from pg_subscription_rel"


UPGRADING = ("initdb", "pg_controldata", "pg_ctl", "pg_dump", "pg_resetwal", "pg_upgrade", "postgres")
UPGRADABLE = [
    (major, programs)
    for major, programs in sorted(SERVERS.items())
    if major >= OLDEST and all((programs / name).exists() for name in UPGRADING)
]
UNKNOWN = "unrecognized parameter"
"""What the newer version says of tables made by a minor release of the older one that came after it."""


@pytest.mark.exhaustive
@pytest.mark.skipif(len(UPGRADABLE) < 2, reason="there are not two versions of PostgreSQL with pg_upgrade")
async def test_a_queue_comes_along_in_an_upgrade_of_the_server(handlers: Handlers, tmp_path: Path) -> None:
    """From one version to the next that is here, by pg_upgrade, with jobs of all kinds in the queue."""
    (_, old_programs), (newer, new_programs) = UPGRADABLE[-2:]
    old_place, new_place = tmp_path / "older", tmp_path / "newer"
    async with (
        embedded_postgres(old_place, bin_dir=old_programs) as server,
        open_database(server.url) as database,
    ):
        await fill(database, handlers)
        before = await database.fetch(ALL_ROWS)
    await upgrade(old_place, new_place, old_programs, new_programs)
    async with (
        embedded_postgres(new_place, bin_dir=new_programs) as server,
        open_database(server.url) as database,
    ):
        assert server.version.startswith(str(newer))
        assert await database.fetch(ALL_ROWS) == before
        await run_rest(database, handlers)


async def upgrade(old_place: Path, new_place: Path, old_programs: Path, new_programs: Path) -> None:
    """Make a cluster of the newer version from one of the older, as who runs both."""
    new_place.mkdir()  # noqa: ASYNC240  # it takes no time
    identity = (await choose_installation(new_programs, new_place)).identity
    new, old = new_place / "data", old_place / "data"
    await run_program(*identity.command(new_programs / "initdb", "-D", new, *INITDB, *like(old_programs)))
    places = ("-b", old_programs, "-B", new_programs, "-d", old, "-D", new)
    try:
        await run_program(
            *identity.command(new_programs / "pg_upgrade", *places, "-U", "postgres", "-s", "/tmp"),
            cwd=new_place,
        )
    except AssertionError:
        logs = (new / "pg_upgrade_output.d").rglob("*.log")  # noqa: ASYNC240  # as above
        if any(UNKNOWN in log.read_text(errors="replace") for log in logs):
            pytest.skip(f"{new_programs} came before the minor release in {old_programs}")
        raise


INITDB = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")


def like(programs: Path) -> list[str]:
    """Return the option for checksums as the other version has them: they are the default since 18."""
    return [] if major_of(programs) >= 18 else ["--no-data-checksums"]
