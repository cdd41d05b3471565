"""The roles of `trio-graphile roles`: each may do what it is for, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import pytest
import trio

from tests.admin.guarded import BASIC, browser, options_of
from tests.database.random_jobs import nodes_of, plan_of
from tests.environments.roles import Party, url_with_login
from tests.support.documents import DOCS, blocks
from trio_graphile import (
    Cleanup,
    Client,
    CronItem,
    Database,
    JobContext,
    JobSpec,
    MigrationFailed,
    PresenceOptions,
    RecoveryOptions,
    StatementFailed,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile._database.claiming.claims import GET_JOBS
from trio_graphile._database.claiming.conditions import conditions_of
from trio_graphile._database.statement import quote_identifier
from trio_graphile._model.bounds import ANY_JOB
from trio_graphile.admin import Admin

LogCapture = pytest.LogCaptureFixture


@pytest.fixture
async def newcomers(empty_database_url: str) -> AsyncIterator[Party]:
    """Roles in a database that has no schema yet."""
    async with open_database(empty_database_url) as admin:
        party = Party(admin, empty_database_url)
        await party.run_script()
        await party.make_logins()
        yield party
        await party.drop_roles()


@pytest.fixture
async def party(newcomers: Party) -> Party:
    """Roles of a queue."""
    async with newcomers.database("migrator") as migrator:
        await Client(migrator).migrate()
    await newcomers.run_script()
    return newcomers


PATIENCE = 30.0
ADVICE = "`trio-graphile roles` prints"
OWNERS = """
    select distinct pg_get_userbyid(relowner)::text as name
    from pg_class
    where relnamespace = 'graphile_worker'::regnamespace
"""


async def test_a_migrator_installs_the_schema_and_owns_it(party: Party) -> None:
    owners = await party.admin.fetch(OWNERS)
    assert [owner["name"] for owner in owners] == [party.names.migrator]
    async with party.database("migrator") as migrator:
        await migrator.execute("drop table graphile_worker.trio_graphile_samples")
        await migrator.execute("delete from graphile_worker.trio_graphile_migrations where id = 10")
        assert (await Client(migrator).migrate()).applied == (10,)
    async with party.database("worker") as worker:
        assert await worker.fetch("select from graphile_worker.trio_graphile_samples") == []
        with pytest.raises(StatementFailed, match="permission denied"):
            await worker.execute("create table graphile_worker.mine ()")


async def test_a_login_may_always_act_as_the_migrator(newcomers: Party) -> None:
    """As the page says: what a member of the migrator makes would be its own."""
    login, role = newcomers.login("migrator"), newcomers.names.migrator.replace("'", "''")
    await newcomers.admin.execute(f"alter role {login} set role = '{role}'")
    async with open_database(url_with_login(newcomers.url, login)) as database:
        await Client(database).migrate()
    assert [owner["name"] for owner in await newcomers.admin.fetch(OWNERS)] == [newcomers.names.migrator]


ADDITIONS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "one": lambda client: client.add_raw_job("a", 1),
    "one of a known task": lambda client: client.add_raw_job("known", 1),
    "one of a queue": lambda client: client.add_raw_job("a", 1, JobSpec(queue_name="q")),
    "one with a key": lambda client: client.add_raw_job("a", 1, JobSpec(job_key="k")),
    "one in place of another": lambda client: client.add_raw_job("a", 1, JobSpec(job_key="waits")),
    "one in place of one that runs": lambda client: client.add_raw_job("a", 1, JobSpec(job_key="runs")),
    "many that are alike": lambda client: client.add_raw_jobs([("known", 1), ("known", 2)]),
    "many": lambda client: client.add_raw_jobs([("a", 1, JobSpec(job_key="waits")), ("b", 2)]),
    "one by SQL": lambda client: client.database.execute(
        "select graphile_worker.add_job('a', queue_name := 'q', job_key := 'waits')"
    ),
    "many by SQL": lambda client: client.database.execute("""
        select graphile_worker.add_jobs(array[
          row('a', '{}', 'q', null, null, 'waits', null, array['flag'])::graphile_worker.job_spec,
          row('b', '{}', null, null, null, null, null, null)::graphile_worker.job_spec
        ])
    """),
}
READS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "backlog": lambda client: client.backlog(),
    "jobs": lambda client: client.jobs(),
    "job": lambda client: client.job(1),
    "queues": lambda client: client.queues(),
    "tasks": lambda client: client.known_tasks(),
    "workers": lambda client: client.workers(),
    "view": lambda client: client.database.fetch("select * from graphile_worker.jobs"),
}
CHANGES: dict[str, tuple[str, Callable[[Client], Awaitable[object]]]] = {
    "remove": ("select, update and delete on _private_jobs", lambda client: client.remove_job("waits")),
    "complete": ("select and delete on _private_jobs", lambda client: client.complete_jobs([1])),
    "fail": ("select and update on _private_jobs", lambda client: client.permanently_fail_jobs([1])),
    "reschedule": (
        "select and update on _private_jobs",
        lambda client: client.reschedule_jobs([1], priority=1),
    ),
    "cancel": ("select and update on _private_jobs", lambda client: client.cancel_jobs([1])),
    "unlock": ("select and update on _private_jobs", lambda client: client.force_unlock_workers(["w"])),
    "sweep": ("select and update on _private_workers", lambda client: client.sweep_stale_workers()),
    "clean up": (
        "select, update and delete on _private_jobs",
        lambda client: client.cleanup([Cleanup.DELETE_PERMANENTLY_FAILED_JOBS]),
    ),
}


@pytest.fixture
async def busy(party: Party) -> Party:
    """The roles of a queue with a job that waits and one that runs."""
    await Client(party.admin).add_raw_jobs(
        [("known", 1, JobSpec(job_key="waits")), ("known", 2, JobSpec(job_key="runs"))]
    )
    await party.admin.execute("""
        update graphile_worker._private_jobs
        set locked_by = 'w', locked_at = now(), attempts = 1
        where key = 'runs'
    """)
    return party


async def test_a_worker_may_all_but_touch_the_schema(busy: Party) -> None:
    async with busy.database("worker") as database:
        client = Client(database)
        for call in (*ADDITIONS.values(), *READS.values(), *(change for _, change in CHANGES.values())):
            await call(client)
        await client.cleanup(Cleanup)
        with pytest.raises(StatementFailed, match="permission denied for table migrations"):
            await database.execute("insert into graphile_worker.migrations (id) values (99)")
        with pytest.raises(StatementFailed, match="must be owner"):
            await database.execute("alter table graphile_worker._private_jobs disable row level security")


SAMPLES = "select from graphile_worker.trio_graphile_samples where ready is not null"


async def test_a_worker_runs_jobs_and_what_else_a_worker_does(party: Party, caplog: LogCapture) -> None:
    """Recurring jobs, recovery with presence, samples, and a job that is completed in a transaction."""
    tasks, ran = TaskRegistry(), trio.Event()

    @tasks.task("tick")
    async def tick(_payload: object, context: JobContext) -> None:
        async with context.complete_in_transaction():
            ran.set()

    recovery = RecoveryOptions(presence=PresenceOptions(), sweep_interval=0.1)
    crontab = [CronItem(task_identifier="tick", schedule="* * * * *", backfill_period=120)]
    options = WorkerOptions(recovery=recovery, concurrency=2)
    async with party.database("worker") as database, trio.open_nursery() as nursery:
        await party.admin.execute("""
            insert into graphile_worker._private_known_crontabs
            values ('tick', now() - interval '1 hour', now() - interval '1 hour')
        """)
        worker = Worker(database, tasks, options, crontab=crontab)
        with trio.fail_after(PATIENCE):
            await nursery.start(worker.run)
            await ran.wait()
            while not await party.admin.fetch(SAMPLES):
                pass
            worker.stop()
            await worker.wait_ended()
    assert "permission denied" not in caplog.text
    assert "row level security" not in caplog.text


@pytest.mark.parametrize("way", ADDITIONS)
async def test_an_enqueuer_adds_jobs(busy: Party, way: str) -> None:
    everybody = Client(busy.admin)
    before = (await everybody.jobs()).jobs
    async with busy.database("enqueuer") as database:
        await ADDITIONS[way](Client(database))
    assert (await everybody.jobs()).jobs != before


async def test_an_enqueuer_may_mark_what_it_replaces_as_functions_of_rust_do(party: Party) -> None:
    """Their table comes with a later revision, and may be secured as well."""
    async with party.database("migrator") as migrator:
        await migrator.execute(
            "create table graphile_worker._private_job_retirements (id bigint primary key)"
        )
        await migrator.execute(
            "alter table graphile_worker._private_job_retirements enable row level security"
        )
    await party.run_script()
    mark = "insert into graphile_worker._private_job_retirements (id) values (1)"
    async with party.database("enqueuer") as enqueuer, party.database("worker") as worker:
        await enqueuer.execute(mark)
        assert len(await worker.fetch("select from graphile_worker._private_job_retirements")) == 1
    async with party.database("observer") as observer:
        with pytest.raises(StatementFailed, match="permission denied"):
            await observer.execute(mark)


FORBIDDEN = (
    "delete from graphile_worker._private_jobs",
    "update graphile_worker._private_jobs set locked_by = 'thief', locked_at = now()",
    "update graphile_worker._private_tasks set identifier = 'renamed'",
    "insert into graphile_worker._private_workers (id, last_heartbeat_at) values ('w', now())",
)


async def test_an_enqueuer_takes_nothing_away_and_runs_nothing(busy: Party) -> None:
    async with busy.database("enqueuer") as database:
        for right, call in CHANGES.values():
            with pytest.raises(StatementFailed, match=rf"needs {right}; {ADVICE}"):
                await call(Client(database))
        for sql in FORBIDDEN:
            with pytest.raises(StatementFailed) as refused:
                await database.execute(sql)
            assert refused.value.sqlstate == "42501"
        with pytest.raises(StatementFailed, match=f"needs select on migrations; {ADVICE}"):
            await Worker(database, TaskRegistry()).run_once()


async def test_an_observer_reads_and_does_nothing_else(busy: Party) -> None:
    async with busy.database("observer") as database:
        client = Client(database)
        for call in READS.values():
            await call(client)
        assert (await client.backlog()).locked == 1
        for call in ADDITIONS.values():
            with pytest.raises(StatementFailed, match="permission denied for table _private_tasks"):
                await call(client)
        for right, call in CHANGES.values():
            with pytest.raises(StatementFailed, match=rf"needs {right}; {ADVICE}"):
                await call(client)
        for sql in FORBIDDEN:
            with pytest.raises(StatementFailed, match="permission denied"):
                await database.execute(sql)


PAGES = ("", "jobs", "jobs/1", "failures", "tasks", "queues", "workers", "recurring", "maintenance")


async def test_an_observer_serves_a_read_only_admin(busy: Party) -> None:
    async with busy.database("observer") as database, trio.open_nursery() as nursery:
        admin = Admin(Client(database), options_of(read_only=True))
        with trio.fail_after(PATIENCE):
            await nursery.start(admin.run)
            async with browser(admin) as visitor:
                for page in (*PAGES, "api/findings"):
                    answer = await visitor.get(f"/{page}", headers=BASIC)
                    assert (answer.status_code, "permission denied" in answer.text) == (200, False), page
        nursery.cancel_scope.cancel()


async def test_an_application_adds_by_what_has_the_rights_of_its_owner(party: Party) -> None:
    """The SQL of the page, run by an enqueuer: the application itself may see nothing of the queue."""
    application = party.login("application")
    await party.admin.execute(f"create role {application} login password 'sesame'")
    await party.admin.execute(f"grant create on schema public to {party.login('enqueuer')}")
    async with party.database("enqueuer") as enqueuer, enqueuer.connection() as connection:
        for statement in blocks(DOCS / "roles.md", "sql"):
            await connection.execute(statement)
        await connection.execute(f"""
            grant insert on customers to {application};
            grant execute on function request_report(integer) to {application};
        """)
    async with open_database(url_with_login(party.url, application)) as database:
        await database.execute("insert into customers (email) values ('ada@example.org')")
        await database.execute("select request_report(2026)")
        with pytest.raises(StatementFailed, match="permission denied for schema graphile_worker"):
            await database.execute("select graphile_worker.add_job('send_welcome')")
        with pytest.raises(StatementFailed, match="permission denied"):
            await database.execute("select greet_customer()")
    jobs = (await Client(party.admin).jobs()).jobs
    assert [(listed.job.task_identifier, listed.job.payload) for listed in jobs] == [
        ("send_welcome", {"to": "ada@example.org"}),
        ("make_report", {"year": 2026}),
    ]


async def test_a_worker_that_may_not_migrate_says_who_may(party: Party) -> None:
    await party.admin.execute("delete from graphile_worker.trio_graphile_migrations where id > 9")
    async with party.database("worker") as database:
        with pytest.raises(
            MigrationFailed, match="run `trio-graphile migrate` as the role that owns the schema"
        ):
            await Worker(database, TaskRegistry()).run_once()


async def test_whoever_lacks_all_is_told_what_to_begin_with(party: Party) -> None:
    await party.admin.execute(f"create role {party.login('nobody')} login password 'sesame'")
    async with open_database(url_with_login(party.url, party.login("nobody"))) as database:
        with pytest.raises(StatementFailed, match=f"needs usage on the schema; {ADVICE}"):
            await Client(database).add_raw_job("a")
        with pytest.raises(StatementFailed, match=f"needs usage on the schema; {ADVICE}"):
            await Worker(database, TaskRegistry()).run_once()


async def test_the_script_waits_for_nobody_when_all_is_there(busy: Party) -> None:
    """Workers and programs that add jobs go on, and so does one whose transaction is open for long."""
    async with busy.admin.transaction() as connection:
        await connection.execute("update graphile_worker._private_jobs set priority = 1")
        await connection.execute("select graphile_worker.add_job('a', queue_name := 'q')")
        with trio.fail_after(PATIENCE):
            await busy.run_script()


@pytest.fixture
async def cloud(empty_database_url: str) -> AsyncIterator[Party]:
    """A database whose administrator is no superuser but may create roles."""
    async with open_database(empty_database_url) as admin:
        party = Party(admin, empty_database_url)
        name = party.login("creator")
        await admin.execute(f"create role {name} createrole login password 'sesame'")
        await admin.execute(f"grant create on database {quote_identifier(party.name)} to {name}")
        async with open_database(url_with_login(party.url, name)) as creator:
            yield attrs.evolve(party, admin=creator)
        await party.drop_roles()


async def test_a_role_that_may_create_roles_can_run_it(cloud: Party) -> None:
    for _ in range(2):
        await cloud.run_script()
        await cloud.make_logins()
        async with cloud.database("migrator") as migrator:
            await Client(migrator).migrate()
    async with cloud.database("enqueuer") as enqueuer:
        await Client(enqueuer).add_raw_job("a")


async def test_an_owner_that_exists_has_to_be_named(database: Database, database_url: str) -> None:
    party = Party(database, database_url)
    with pytest.raises(StatementFailed, match="belongs to postgres and not to") as refused:
        await party.run_script()
    assert str(refused.value.hint) == "Name the owner: trio-graphile roles --migrator postgres"
    names = await database.fetch("select rolname from pg_roles where rolname like $1", f"%{party.suffix}%")
    assert names == [], "nothing of it stays"


async def test_row_security_changes_no_plan_of_a_claim(busy: Party) -> None:
    async def shape(database: Database) -> list[tuple[str, str | None]]:
        session = await database.open_session("claims", cancel_timeout=1.0)
        plan = await plan_of(
            session, GET_JOBS, "w", ["known"], 10, *conditions_of(ANY_JOB, None), 1, None, None
        )
        await session.aclose()
        return [(node["Node Type"], node.get("Index Name")) for node in nodes_of(plan)]

    async with busy.database("worker") as database:
        assert await shape(database) == await shape(busy.admin)
