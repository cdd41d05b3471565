"""The lock keeper: nobody takes the jobs of a worker that lives; one that cannot show it lets go of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.faults.network import Proxy, open_proxy
from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import NEVER, make_worker, running
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    DatabaseOptions,
    JobSpec,
    OptionInvalid,
    PresenceOptions,
    RecoveryOptions,
    ShutdownOptions,
    WorkerOptions,
    open_database,
)
from trio_graphile._database import worker_registry
from trio_graphile._worker.lock_keeper import LockKeeper
from trio_graphile.embedded import PostgresServer, embedded_postgres

BRIEF = PresenceOptions(probe_interval=0.3, probe_timeout=0.3, fence_after=2.4, grace=3.0)
INDIRECT = attrs.evolve(BRIEF, indirect=True)

make_present_worker = partial(
    make_worker,
    recovery=RecoveryOptions(presence=BRIEF),
    poll_interval=0.1,
    shutdown=ShutdownOptions(grace_period=1.0),
)

NAME = "cut off"
NAMED = {"server_settings": {"application_name": NAME}}

LOCKS = """
    select workers.id, workers.metadata -> 'presence' ->> 'key' as key, locks.pid
    from graphile_worker._private_workers as workers
    join pg_locks as locks
      on locks.locktype = 'advisory'
      and ((locks.classid::bigint << 32) | locks.objid::bigint)::text
        = workers.metadata -> 'presence' ->> 'key'
"""


async def wait_locked(database: Database, worker_id: str, *, but: str = "") -> tuple[str, int]:
    """Wait until a lock stands for the worker; return its key and the process that has it."""
    with trio.fail_after(PATIENCE):
        while True:
            for row in await database.fetch(LOCKS):
                if row["id"] == worker_id and row["key"] != but:
                    return row["key"], row["pid"]
            await trio.sleep(0.02)


@attrs.define(eq=False)
class Door:
    """Through which a worker gets new sessions, or does not."""

    is_open: bool = True

    def password(self) -> str:
        if not self.is_open:
            raise ConnectionError("the door is shut")
        return "unused"


@attrs.define(eq=False)
class Rivals:
    """A worker that runs a job, and another that would take it."""

    database: Database
    worker_id: str
    handlers: Handlers
    others: Handlers
    key: str = ""
    process: int = 0

    async def wait_locked_again(self) -> None:
        """Wait until another lock stands for the worker."""
        self.key, self.process = await wait_locked(self.database, self.worker_id, but=self.key)

    async def cut(self) -> None:
        """Have the server end the session with the lock."""
        await self.database.execute("select pg_terminate_backend($1::integer)", self.process)

    async def cut_all(self) -> None:
        """Have the server end all sessions of the worker."""
        await self.database.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1::text", NAME
        )

    async def check_undisturbed(self) -> None:
        """Check that the job goes on where it was, and ends there."""
        assert not self.handlers.cancelled
        self.handlers.release.set()
        await self.handlers.wait_ended(1)
        assert not self.others.started

    async def check_fenced(self) -> None:
        """Check that the worker lets go of the job before the other takes it, with its attempt."""
        await self.handlers.wait_cancelled(1)
        assert not self.others.started
        await self.others.wait_started(1)
        [job] = self.others.started
        assert job.attempts == 1


@asynccontextmanager
async def open_rivals(
    database: Database, through: Database, presence: PresenceOptions = BRIEF
) -> AsyncIterator[Rivals]:
    """Run both, the first of them on sessions of its own."""
    handlers, others = Handlers(), Handlers()
    worker = make_present_worker(through, handlers.tasks, recovery=RecoveryOptions(presence=presence))
    async with running(worker):
        await Client(database, handlers.tasks).add_raw_jobs([("held", None, JobSpec())])
        await handlers.wait_started(1)
        rivals = Rivals(database, worker.worker_id, handlers, others)
        rival = make_present_worker(database, others.tasks, poll_interval=NEVER)
        async with running(rival):
            await wait_locked(database, rival.worker_id)
            yield rivals
            handlers.release.set()
            others.release.set()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def rivals(database: Database, database_url: str, door: Door) -> AsyncIterator[Rivals]:
    async with (
        open_database(database_url, password=door.password, connect_arguments=NAMED) as through,
        open_rivals(database, through) as rivals,
    ):
        await rivals.wait_locked_again()
        yield rivals
        door.is_open = True


async def test_a_session_that_somebody_terminates_is_replaced(rivals: Rivals) -> None:
    for _ in range(3):
        await rivals.cut()
        await rivals.wait_locked_again()
    await rivals.check_undisturbed()


async def test_a_worker_that_has_lost_its_session_for_good_lets_go_before_others_take_over(
    rivals: Rivals, door: Door
) -> None:
    door.is_open = False
    await rivals.cut_all()
    await rivals.check_fenced()


async def test_a_worker_that_comes_back_runs_jobs_again(rivals: Rivals, door: Door, client: Client) -> None:
    door.is_open = False
    await rivals.cut_all()
    await rivals.others.wait_started(1)
    rivals.handlers.release.set()
    door.is_open = True
    await rivals.wait_locked_again()
    await client.add_raw_jobs([("held", None, JobSpec())] * 8)  # more than the other has slots for
    await rivals.handlers.wait_started(2)


async def test_the_lease_shares_the_session_of_the_lock(rivals: Rivals, table: Table) -> None:
    """So a worker has no more than these, besides the pool of its handlers, which none here has used."""
    await table.wait_until(
        """
        select string_agg(split_part(application_name, ' ', 2), ' ' order by application_name)
          = 'claim outcomes presence'
        from pg_stat_activity
        where datname = current_database()
          and application_name like 'trio_graphile %'
        """
    )  # the other has another name
    await rivals.check_undisturbed()


@pytest.mark.parametrize(
    ("options", "presence", "why"),
    [({}, None, "turned off"), ({"prepared_statements": False}, BRIEF, "pooler")],
    ids=["off", "pooler"],
)
async def test_a_worker_says_why_no_lock_will_ever_stand_for_it(
    database_url: str, options: dict[str, Any], presence: PresenceOptions | None, why: str
) -> None:
    async with open_database(database_url, DatabaseOptions(**options)) as database:
        worker = make_present_worker(database, Handlers().tasks, recovery=RecoveryOptions(presence=presence))
        async with running(worker):
            [row] = await database.fetch(
                "select metadata #>> '{presence,why_not}' as why from graphile_worker._private_workers"
            )
            assert why in row["why"]


async def test_a_server_that_ends_idle_sessions_does_not_end_that_of_the_lock(rivals: Rivals) -> None:
    key = rivals.key
    name = await rivals.database.fetch_value("select quote_ident(current_database())")
    await rivals.database.execute(f"alter database {name} set idle_session_timeout = 700")
    await rivals.cut()
    await rivals.wait_locked_again()
    await trio.sleep(BRIEF.grace)  # nothing is to happen
    again, _ = await wait_locked(rivals.database, rivals.worker_id, but=key)
    assert again == rivals.key
    await rivals.check_undisturbed()


FILL_LOCK_TABLE = """
    do $$
    begin
      for number in 1..1000000 loop
        perform pg_advisory_lock(number);
      end loop;
    exception when out_of_memory then
      null;
    end
    $$
"""


async def test_a_worker_for_whose_lock_there_is_no_room_lives_by_its_lease() -> None:
    settings = {"max_connections": "20", "max_locks_per_transaction": "10", "autovacuum": "off"}
    async with (
        embedded_postgres(settings=settings) as server,
        open_database(server.url) as database,
        database.connection() as greedy,
    ):
        handlers = Handlers()
        worker = make_present_worker(database, handlers.tasks)
        async with running(worker):
            key, process = await wait_locked(database, worker.worker_id)
            await greedy.execute(FILL_LOCK_TABLE)
            await database.execute("select pg_terminate_backend($1::integer)", process)
            await trio.sleep(BRIEF.grace)  # it fails to take another
            await greedy.execute("select pg_advisory_unlock_all()")
            with trio.fail_after(PATIENCE * 3):
                await wait_locked_again(database, worker.worker_id, key)
            await Client(database, handlers.tasks).add_raw_jobs([("held", None, JobSpec())])
            await handlers.wait_started(1)
            handlers.release.set()


# --- what is logged ------------------------------------------------------------------------------

LOST = "the lock that stands for the worker is lost"
HAS_LOOKED = """
    select exists (
      select
      from pg_stat_activity
      where datname = current_database()
        and application_name like '% presence'
        and state = 'idle'
        and query_start > $1::timestamptz
    )
"""


async def wait_until_it_has_looked(table: Table) -> None:
    """Wait for the answer to a question that was asked from now on."""
    await table.wait_until(HAS_LOOKED, await table.database.fetch_value("select clock_timestamp()"))


async def test_a_loss_after_a_look_that_was_refused_is_logged(
    database: Database, database_url: str, table: Table, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    await worker_registry.heartbeat(database, "worker", {"tasks": []})
    options = WorkerOptions(recovery=RecoveryOptions(presence=BRIEF))

    async def wait_warned(times: int) -> None:
        await wait_until(lambda: caplog.text.count(LOST) == times)

    async with (
        open_database(database_url, password=door.password) as through,
        trio.open_nursery() as nursery,
    ):
        keeper = LockKeeper.of(through, "worker", options)
        assert keeper is not None
        nursery.start_soon(keeper.run, through, lambda: None, lambda _gone: None)
        _, process = await wait_locked(database, "worker")
        await database.execute("alter table graphile_worker._private_workers rename to away")
        await wait_warned(1)
        await database.execute("alter table graphile_worker.away rename to _private_workers")
        for _ in range(2):  # the second time it asks, it has read the first answer
            await wait_until_it_has_looked(table)
        door.is_open = False
        await database.execute("select pg_terminate_backend($1::integer)", process)
        await wait_warned(2)
        nursery.cancel_scope.cancel()


PATIENT = PresenceOptions(probe_interval=0.05, probe_timeout=10.0, fence_after=20.0, grace=30.0)
WAITS = """
    select exists (
      select
      from pg_locks
      join pg_stat_activity using (pid)
      where not granted
        and application_name like '% presence'
    )
"""


async def test_a_session_that_is_lent_as_soon_as_it_answers_does_not_count_as_silent(
    database: Database, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    await worker_registry.heartbeat(database, "worker", {"tasks": []})
    keeper = LockKeeper.of(database, "worker", WorkerOptions(recovery=RecoveryOptions(presence=PATIENT)))
    assert keeper is not None

    async def borrow() -> None:
        session = await keeper.lend()
        assert session is not None
        await trio.testing.wait_all_tasks_blocked()  # whoever else waited for the answer has gone on
        session.answered.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run, database, lambda: None, lambda _gone: None)
        held = await wait_locked(database, "worker")
        for _ in range(12):  # the two that wait for the answer are roused in any order
            async with trio.open_nursery() as borrowing, database.transaction() as connection:
                await connection.execute("lock table graphile_worker._private_workers")
                await table.wait_until(WAITS)
                borrowing.start_soon(borrow)
        assert await wait_locked(database, "worker") == held
        nursery.cancel_scope.cancel()
    assert "silent" not in caplog.text


# --- behind a proxy -----------------------------------------------------------------------------


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with open_proxy(database_url) as proxy:
        yield proxy
        await proxy.heal()


@pytest.fixture
async def indirect_rivals(database: Database, proxy: Proxy) -> AsyncIterator[Rivals]:
    async with open_database(proxy.url) as through, open_rivals(database, through, INDIRECT) as rivals:
        await rivals.wait_locked_again()
        yield rivals
        await proxy.heal()


async def test_behind_a_proxy_only_the_lease_decides(database: Database, proxy: Proxy, table: Table) -> None:
    async with open_database(proxy.url) as through, open_rivals(database, through) as rivals:
        await table.wait_until(
            "select metadata #>> '{presence,why_not}' is not null "
            "from graphile_worker._private_workers where id = $1::text",
            rivals.worker_id,
        )
        proxy.refuse()
        proxy.reset()
        await trio.sleep(BRIEF.grace * 2)  # nothing is to happen
        await proxy.heal()
        await rivals.check_undisturbed()


async def test_sessions_that_are_reset_come_back(indirect_rivals: Rivals, proxy: Proxy) -> None:
    for _ in range(3):
        proxy.reset()
        await indirect_rivals.wait_locked_again()
    await indirect_rivals.check_undisturbed()


async def test_a_session_that_is_half_open_is_replaced(indirect_rivals: Rivals, proxy: Proxy) -> None:
    proxy.freeze()
    await indirect_rivals.wait_locked_again()
    await indirect_rivals.check_undisturbed()


async def test_silence_behind_a_proxy_interrupts_handlers_in_time(
    indirect_rivals: Rivals, proxy: Proxy
) -> None:
    """The proxy has dropped the server's side, and keeps ours."""
    proxy.swallow()
    await indirect_rivals.cut()
    await indirect_rivals.check_fenced()


# --- when the server is down --------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    async with embedded_postgres() as server:
        yield server


async def test_a_server_that_is_down_for_long_interrupts_nobody(server: PostgresServer) -> None:
    handlers, others = Handlers(), Handlers()
    async with open_database(server.url) as database:
        worker = make_present_worker(database, handlers.tasks)
        async with running(worker), running(make_present_worker(database, others.tasks)):
            await wait_locked(database, worker.worker_id)
            client = Client(database, handlers.tasks)
            await client.add_raw_jobs([("held", None, JobSpec())])
            await wait_until(lambda: bool(handlers.started or others.started))
            key, _ = await wait_locked(database, worker.worker_id)
            await server.kill()
            await trio.sleep(BRIEF.grace * 2)  # nothing is to happen
            await server.start()
            with trio.fail_after(PATIENCE * 3):
                await wait_locked_again(database, worker.worker_id, key)
            assert not handlers.cancelled
            assert not others.cancelled
            handlers.release.set()
            others.release.set()
            await wait_until(lambda: bool(handlers.ended or others.ended))
            assert len(handlers.started) + len(others.started) == 1


async def wait_locked_again(database: Database, worker_id: str, key: str) -> None:
    while True:
        try:
            await wait_locked(database, worker_id, but=key)
        except DatabaseError:
            await trio.sleep(0.1)
        else:
            return


async def test_a_server_that_was_seen_to_be_down_needs_not_be_seen_again(server: PostgresServer) -> None:
    """Its address says nothing any more, as that of a machine that starts anew; no lock of it counts."""
    door = Door()
    async with (
        open_database(server.url) as database,
        open_database(server.url, password=door.password) as through,
        open_rivals(database, through) as rivals,
    ):
        await rivals.wait_locked_again()
        door.is_open = False
        await server.kill()
        await trio.sleep(BRIEF.fence_after / 2)  # so that it is asked for
        await server.start()
        await trio.sleep(BRIEF.grace * 2)  # nothing is to happen
        door.is_open = True
        await rivals.check_undisturbed()


REGISTERED_ANEW = """
    select metadata #>> $3::text[] <> $2::text
    from graphile_worker._private_workers
    where id = $1::text
"""


async def wait_registered_anew(database: Database, worker_id: str, name: str, before: str) -> None:
    """Wait until the registration of a worker says something else of its lock."""
    await Table(database).wait_until(REGISTERED_ANEW, worker_id, before, ["presence", name])


async def test_a_lock_counts_again_after_statistics_of_the_server_were_reset(server: PostgresServer) -> None:
    """These tell one incarnation from another, and the session goes on."""
    door = Door()
    async with (
        open_database(server.url) as database,
        open_database(server.url, password=door.password, connect_arguments=NAMED) as through,
        open_rivals(database, through) as rivals,
    ):
        await rivals.wait_locked_again()
        before = await database.fetch_value(
            "select metadata #>> '{presence,incarnation}' from graphile_worker._private_workers limit 1"
        )
        await database.execute("select pg_stat_reset_shared('bgwriter')")
        await wait_registered_anew(database, rivals.worker_id, "incarnation", before)
        door.is_open = False
        await rivals.cut_all()
        await rivals.check_fenced()
        door.is_open = True


LOSE_ANSWER = """
    create sequence registrations;
    create function lose_answer() returns trigger language plpgsql as $$
    begin
      if nextval('registrations') > 1 then
        raise exception 'no further lock';
      end if;
      perform pg_sleep(1.6);
      return new;
    end
    $$;
    create trigger lose_answer before update on graphile_worker._private_workers
      for each row
      when (new.metadata #> '{presence,key}' is distinct from old.metadata #> '{presence,key}')
      execute function lose_answer()
"""
"""The first registration of another lock takes longer than the worker waits. The next ones are refused."""


async def test_a_lock_whose_registration_had_no_answer_counts_on_the_incarnation_where_it_was(
    server: PostgresServer,
) -> None:
    """Who asks for yet another lock there has no evidence that nobody takes its jobs."""
    door = Door()
    async with (
        open_database(server.url) as database,
        open_proxy(server.url) as proxy,
        open_database(proxy.url, password=door.password) as through,
        open_rivals(database, through, INDIRECT) as rivals,
    ):
        await rivals.wait_locked_again()
        await database.execute(LOSE_ANSWER)
        proxy.freeze()  # so that the lease cannot take the lock out of the registration
        await database.execute("select pg_stat_reset_shared('bgwriter')")  # the next lock is on another
        await rivals.cut()
        await Table(database).wait_until("select is_called from registrations")
        door.is_open = False  # else the worker has the registration ended
        await wait_registered_anew(database, rivals.worker_id, "key", rivals.key)
        door.is_open = True
        await rivals.check_fenced()
        await proxy.heal()


@pytest.mark.parametrize(
    "wrong",
    [
        {"fence_after": 5.9},
        {"fence_after": 8.1},
        {"probe_interval": 4.0},
        {"probe_timeout": 4.0},
        {"grace": 8.0},
    ],
    ids=str,
)
def test_options_that_leave_no_time_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionInvalid, match="fence_after"):
        PresenceOptions(**wrong)
