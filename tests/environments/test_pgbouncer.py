"""Workers and commands behind a real PgBouncer: in each mode, killed, and with too few sessions."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from tests.cli.program import Program
from tests.environments.bouncer import PROGRAM, Bouncer, open_bouncer
from tests.faults.load import PATIENCE, Load, check_nothing_locked, drain
from tests.support.handlers import Handlers
from tests.support.workers import NEVER, running
from trio_graphile import (
    Client,
    Database,
    DatabaseOptions,
    DatabaseRefused,
    JobContext,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    ShutdownIncomplete,
    ShutdownOptions,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer
from trio_graphile.testing import TemplateDatabases, embedded_postgres_in_thread

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer: apt-get install pgbouncer"),
]

POOLED = DatabaseOptions(pooled=True, connect_timeout=2.0)
SLACK = 2.0
"""For a slow machine, in seconds."""
MODES = ["transaction", "session"]
KINDS = [
    ("brief", None, JobSpec()),
    ("brief", None, JobSpec(queue_name="first")),
    ("failing_once", None, JobSpec()),
    ("brief", None, JobSpec(queue_name="second")),
]
"""Whoever asks the database in a handler fails with it, and the pooler is killed here."""


def keeps_named_statements() -> bool:
    """Whether this PgBouncer can keep named statements in transaction mode."""
    assert PROGRAM is not None
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert version is not None, said
    return (int(version[1]), int(version[2])) >= (1, 21)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with embedded_postgres_in_thread(tcp_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def databases_behind(server: PostgresServer) -> TemplateDatabases:
    return TemplateDatabases(server.url)


@attrs.frozen
class Stage:
    """A database, and its name on the other side of a pooler."""

    database: Database
    """The direct way."""
    direct_url: str
    name: str
    server: PostgresServer

    @contextlib.asynccontextmanager
    async def pooler(self, mode: str, **settings: object) -> AsyncIterator[Bouncer]:
        async with open_bouncer(self.server, pool_mode=mode, **settings) as bouncer:
            yield bouncer

    def url(self, bouncer: Bouncer) -> str:
        return bouncer.url(self.name)


@pytest.fixture
async def stage(server: PostgresServer, databases_behind: TemplateDatabases) -> AsyncIterator[Stage]:
    async with databases_behind.clone() as url, open_database(url) as database:
        name = await database.fetch_value("select current_database()")
        yield Stage(database, url, name, server)


# --- what is to be set ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_the_default_options_say_what_to_set(stage: Stage, mode: str) -> None:
    async with stage.pooler(mode) as bouncer:
        with pytest.raises(DatabaseRefused, match=r"pooled=True \(--pooled\)"):
            async with open_database(stage.url(bouncer), DatabaseOptions(wait_for_server=60.0)):
                pass


@pytest.mark.parametrize("keeps", [False, True], ids=["forgets names", "keeps names"])
@pytest.mark.parametrize("direct", [False, True], ids=["no direct URL", "direct URL"])
@pytest.mark.parametrize("mode", MODES)
async def test_one_option_is_enough(stage: Stage, mode: str, *, direct: bool, keeps: bool) -> None:
    """All kinds of outcomes are written, and a stop leaves nothing locked."""
    if keeps and not keeps_named_statements():
        pytest.skip("this PgBouncer keeps no named statements: those from 1.21 on do")
    load = Load()
    once: list[int] = []

    @load.tasks.task("once")
    async def complete_once(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            once.append(await connection.fetch_value("select 1"))

    settings = {"max_prepared_statements": 200} if keeps else {}
    options = attrs.evolve(POOLED, direct_url=stage.direct_url if direct else None)
    async with (
        stage.pooler(mode, **settings) as bouncer,
        open_database(stage.url(bouncer), options) as database,
    ):
        client = Client(database, load.tasks)
        await load.add(client)
        await client.add_raw_job("once")
        worker = Worker(database, load.tasks, WorkerOptions(concurrency=4, poll_interval=0.1))
        async with running(worker) as run:
            await drain(stage.database)
            report = await run.stop()
        assert report.failed == 1  # `failing_once`, the first time
    assert once == [1]
    load.check()
    await check_nothing_locked(stage.database)
    assert not await stage.database.fetch_value("select count(*) from graphile_worker._private_workers")


@pytest.mark.parametrize("mode", MODES)
async def test_with_a_direct_url_a_worker_behind_a_pooler_hears_of_jobs(
    stage: Stage, handlers: Handlers, mode: str
) -> None:
    options = attrs.evolve(POOLED, direct_url=stage.direct_url)
    async with stage.pooler(mode) as bouncer, open_database(stage.url(bouncer), options) as database:
        worker = Worker(database, handlers.tasks, WorkerOptions(poll_interval=NEVER))
        async with running(worker):
            client = Client(stage.database, handlers.tasks)
            for count in (1, 2, 3):
                await client.add_raw_job("quick")
                await handlers.wait_ended(count)


async def test_without_a_direct_url_a_worker_finds_jobs_by_polling(stage: Stage, handlers: Handlers) -> None:
    options = WorkerOptions(poll_interval=0.1)
    async with (
        stage.pooler("transaction") as bouncer,
        open_database(stage.url(bouncer), POOLED) as database,
        running(Worker(database, handlers.tasks, options)),
    ):
        assert not await stage.database.fetch_value(LISTENERS)
        await Client(stage.database, handlers.tasks).add_raw_job("quick")
        await handlers.wait_ended(1)


LISTENERS = """
    select count(*)
    from pg_stat_activity
    where datname = current_database()
      and query ilike 'listen%'
      and pid <> pg_backend_pid()
"""


async def test_in_session_mode_a_worker_can_listen_through_the_pooler(
    stage: Stage, handlers: Handlers
) -> None:
    options = DatabaseOptions(prepared_statements=False)
    async with stage.pooler("session") as bouncer, open_database(stage.url(bouncer), options) as database:
        worker = Worker(database, handlers.tasks, WorkerOptions(poll_interval=NEVER))
        async with running(worker):
            client = Client(stage.database, handlers.tasks)
            for count in (1, 2, 3):
                await client.add_raw_job("quick")
                await handlers.wait_ended(count)


# --- what may happen to a pooler -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_a_pooler_that_is_killed_and_comes_back_costs_time_and_nothing_else(
    stage: Stage, mode: str
) -> None:
    load = Load(kinds=KINDS)
    options = WorkerOptions(concurrency=4, poll_interval=0.2, local_queue=LocalQueueOptions(size=10))
    async with (
        stage.pooler(mode) as bouncer,
        open_database(stage.url(bouncer), POOLED) as database,
        trio.open_nursery() as nursery,
    ):
        worker = Worker(database, load.tasks, options)
        await nursery.start(worker.run)
        nursery.start_soon(load.keep_adding, Client(stage.database, load.tasks))
        for _ in range(2):
            await load.wait_returned(30)
            bouncer.kill()
            await bouncer.start()
            with trio.fail_after(PATIENCE):
                await load.wait_resumed()
        await load.finish(stage.database)
        worker.stop()
    assert load.check() == 0, "a job ran again although its first run could be recorded"
    await check_nothing_locked(stage.database)


async def test_a_stop_is_bounded_while_the_pooler_is_gone_and_its_jobs_run_again(
    stage: Stage, handlers: Handlers
) -> None:
    fast = WorkerOptions(
        poll_interval=0.1,
        lease=LeaseOptions(length=2.0),
        recovery=RecoveryOptions(sweep_threshold=2.0, sweep_interval=0.2, recovery_delay=0.0),
        shutdown=ShutdownOptions(grace_period=0.1, flush_timeout=1.0),
    )
    async with stage.pooler("transaction") as bouncer, open_database(stage.url(bouncer), POOLED) as database:
        client = Client(stage.database, handlers.tasks)
        job = await client.add_raw_job("held")
        worker = Worker(database, handlers.tasks, fast)
        with pytest.RaisesGroup(ShutdownIncomplete) as caught:
            async with trio.open_nursery() as nursery:
                await nursery.start(worker.run)
                await handlers.wait_started(1)
                bouncer.kill()
                began = trio.current_time()
                worker.stop()
        assert trio.current_time() - began < 1.1 + SLACK
        [incomplete] = caught.value.exceptions
        assert isinstance(incomplete, ShutdownIncomplete)
        assert incomplete.job_ids == (job.id,)
        await bouncer.start()
        handlers.release.set()
        async with running(Worker(database, handlers.tasks, fast)):
            await handlers.wait_ended(1)


async def test_one_session_of_the_server_is_enough_for_all_of_ours(stage: Stage) -> None:
    """Whoever waits for another session while holding one would wait for ever."""
    load = Load()

    @load.tasks.task("once")
    async def complete_once(context: JobContext) -> None:
        async with context.complete_in_transaction() as connection:
            await connection.fetch_value("select 1")

    options = WorkerOptions(concurrency=8, poll_interval=0.1)
    async with (
        stage.pooler("transaction", default_pool_size=1) as bouncer,
        open_database(stage.url(bouncer), POOLED) as database,
    ):
        client = Client(database, load.tasks)
        for _ in range(3):
            await load.add(client)
            await client.add_raw_jobs([("once", None, JobSpec())] * 5)
        async with running(Worker(database, load.tasks, options)):
            await drain(stage.database)
    load.check()
    await check_nothing_locked(stage.database)


# --- what doctor says ----------------------------------------------------------------------------


async def examine(tmp_path: Path, url: str, *flags: str) -> dict[str, dict[str, str]]:
    """Return what doctor finds, by what it has checked."""
    ended = await Program(tmp_path).with_environment(DATABASE_URL=url).run("doctor", "--json", *flags)
    return {finding["check"]: finding for finding in json.loads(ended.output)}


@pytest.mark.parametrize(("mode", "level"), [("transaction", "warning"), ("session", "problem")])
async def test_doctor_recognises_the_pooler(stage: Stage, tmp_path: Path, mode: str, level: str) -> None:
    async with stage.pooler(mode) as bouncer:
        pooling = (await examine(tmp_path, stage.url(bouncer)))["pooling"]
    assert f"a pooler in {mode} mode" in pooling["text"]
    assert "--pooled" in pooling["advice"]
    assert pooling["level"] == level


async def test_doctor_names_the_settings_that_a_pooler_ignores(stage: Stage, tmp_path: Path) -> None:
    names = {*stage.database.settings_asked_for} - {"application_name"}
    settings = {"ignore_startup_parameters": ", ".join(names)}
    async with stage.pooler("session", **settings) as bouncer:
        url = stage.url(bouncer)
        ignored = (await examine(tmp_path, url))["pooling"]
        pooled = (await examine(tmp_path, url, "--pooled", "--direct-url", stage.direct_url))["pooling"]
    await stage.database.execute(f'alter database "{stage.name}" set jit = off')
    async with stage.pooler("session", **settings) as bouncer:
        set_there = (await examine(tmp_path, stage.url(bouncer)))["pooling"]
    assert ignored["level"] == "warning"
    assert "a pooler stands between us and the server, and ignores settings" in ignored["text"]
    assert {"jit", "plan_cache_mode", "statement_timeout"} <= named(ignored) <= names
    assert "--pooled" in ignored["advice"]
    assert pooled["level"] == "ok"
    assert named(ignored) - named(set_there) == {"jit"}


def named(finding: dict[str, str]) -> set[str]:
    """Return the settings that a finding names."""
    return set(re.findall(r"\w+", finding["text"].rpartition(":")[2]))


async def test_doctor_is_content_with_a_pooler_that_the_options_allow_for(
    stage: Stage, tmp_path: Path
) -> None:
    async with stage.pooler("transaction") as bouncer:
        alone = await examine(tmp_path, stage.url(bouncer), "--pooled")
        direct = await examine(tmp_path, stage.url(bouncer), "--pooled", "--direct-url", stage.direct_url)
    assert [found["pooling"]["level"] for found in (alone, direct)] == ["ok", "ok"]
    assert [found["notifications"]["level"] for found in (alone, direct)] == ["note", "ok"]
    assert "--direct-url" in alone["notifications"]["advice"]
