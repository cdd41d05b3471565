"""Each version of PostgreSQL that is found here: one life of a queue, and an end to those that are too old.

The rest of the tests run on one of them with `TRIO_GRAPHILE_PG_BIN`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.program import Program
from tests.environments.versions import OLDEST, SERVERS
from tests.faults.load import Load, check_nothing_locked, drain
from tests.support.workers import running
from trio_graphile import Client, PostgresTooOld, TaskRegistry, Worker, WorkerOptions, open_database
from trio_graphile.embedded import embedded_postgres

JOBS = """
from trio_graphile import TaskRegistry
tasks = TaskRegistry()

@tasks.task("nothing")
async def nothing(payload: object) -> None: ...
"""
SUPPORTED = [major for major in sorted(SERVERS) if major >= OLDEST]
TOO_OLD = [major for major in sorted(SERVERS) if major < OLDEST]


@pytest.mark.parametrize("major", SUPPORTED)
async def test_a_queue_lives_on_each_version(major: int) -> None:
    load = Load()
    async with (
        embedded_postgres(bin_dir=SERVERS[major]) as server,
        open_database(server.url) as database,
    ):
        client = Client(database, load.tasks)
        await client.migrate()
        await load.add(client)
        options = WorkerOptions(concurrency=4, poll_interval=0.1)
        async with running(Worker(database, load.tasks, options)) as run:
            await drain(database)
            report = await run.stop()
        assert report.failed == 1  # one kind of job fails the first time
        await check_nothing_locked(database)
    load.check()


@pytest.mark.parametrize("major", TOO_OLD)
async def test_a_version_that_is_too_old_is_named_by_all(major: int, tmp_path: Path) -> None:
    program = Program(tmp_path)
    (tmp_path / "jobs.py").write_text(JOBS)
    async with embedded_postgres(bin_dir=SERVERS[major]) as server:
        with pytest.raises(PostgresTooOld, match=rf"PostgreSQL {OLDEST} or newer.* {major}\."):
            async with open_database(server.url) as database:
                await Client(database, TaskRegistry()).migrate()
        there = program.with_environment(DATABASE_URL=server.url)
        for command in (["run", "jobs:tasks"], ["migrate"], ["doctor"]):
            ended = await there.run(*command)
            assert ended.exit_code != 0
            assert f"PostgreSQL {OLDEST} or newer is needed; this server is {major}." in ended.errors
            assert "Traceback" not in ended.errors
