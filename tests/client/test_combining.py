"""`Client.combining_adds`: jobs that Trio tasks add at the same time."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

import attrs
import pytest
import trio
import trio.testing

from tests.client.tasks import ADA, KEYED, Welcome, index, send_welcome
from tests.database.sessions import purposes, wait_until_somebody_waits
from tests.support.waiting import PATIENCE, wait_until
from trio_graphile import (
    Client,
    ConnectionLost,
    Database,
    DatabaseClosed,
    Job,
    JobClient,
    JobSpec,
    StatementFailed,
    open_database,
)
from trio_graphile._database.adding.combined import CombinedAdds
from trio_graphile._database.connection import Row
from trio_graphile._database.session import Session
from trio_graphile._database.statement import Statement
from trio_graphile._model.jobs import NewJob
from trio_graphile._model.json import encode
from trio_graphile.testing._points import ActAt, try_points

STATEMENTS_SEEN = """
    create table statements (at_once integer);
    create function count_statement() returns trigger language plpgsql as $$
      begin
        insert into statements select count(*) from added;
        return null;
      end
    $$;
    create trigger count_statement
      after insert on graphile_worker._private_jobs
      referencing new table as added
      for each statement execute function count_statement();
"""
HOLD_UP_SEVERAL = """
    create function hold_up_several() returns trigger language plpgsql as $$
      begin
        if (select count(*) from added) > 1 then perform pg_advisory_xact_lock(1); end if;
        return null;
      end
    $$;
    create trigger hold_up_several
      after insert on graphile_worker._private_jobs
      referencing new table as added
      for each statement execute function hold_up_several();
"""
END_SESSION_OF_ADDS = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where application_name = 'trio_graphile adds' and datname = current_database()
"""
REFUSE_BOB = """
    create function refuse_bob() returns trigger language plpgsql as $$
      begin
        if new.payload->>'to' = 'bob' then raise 'not bob'; end if;
        return new;
      end
    $$;
    create trigger refuse_bob
      before insert on graphile_worker._private_jobs
      for each row execute function refuse_bob();
"""
REFUSE_SEVERAL_AND_HOLD_UP = """
    create function refuse_several_and_hold_up() returns trigger language plpgsql as $$
      begin
        if (select count(*) from added) > 1 then raise 'one by one'; end if;
        perform pg_advisory_xact_lock(case added.payload->>'to' when 'first' then 1 when 'leader' then 2 end)
        from added;
        return null;
      end
    $$;
    create trigger refuse_several_and_hold_up
      after insert on graphile_worker._private_jobs
      referencing new table as added
      for each statement execute function refuse_several_and_hold_up();
"""
LEADER_WAITS = """
    select exists (
      select
      from pg_locks
      where locktype = 'advisory' and objid = 2 and not granted
    )
"""


@attrs.define(eq=False)
class Adders:
    """Trio tasks that add at the same time, and what comes back to each."""

    client: JobClient
    jobs: dict[str, Job] = attrs.field(factory=dict)
    errors: dict[str, BaseException] = attrs.field(factory=dict)

    async def add(self, to: str, spec: JobSpec | None = None) -> None:
        try:
            self.jobs[to] = await self.client.add_job(send_welcome, Welcome(to=to), spec)
        except Exception as error:  # noqa: BLE001  # the test looks at them
            self.errors[to] = error

    async def add_all(self, names: Sequence[str]) -> None:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(self.add, name)


async def stored_payloads(database: Database) -> dict[int, str]:
    rows = await database.fetch("""
        select id, payload->>'to' as to
        from graphile_worker._private_jobs
    """)
    return {row["id"]: row["to"] for row in rows}


async def test_what_is_added_meanwhile_is_added_together_and_each_gets_its_own_job(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA)  # so that the task is known
    await database.execute(STATEMENTS_SEEN)
    names = [str(number) for number in range(50)]
    async with client.combining_adds() as combining:
        adders = Adders(combining)
        await adders.add_all(names)
    assert not adders.errors
    stored = await stored_payloads(database)
    assert {name: stored[job.id] for name, job in adders.jobs.items()} == {name: name for name in names}
    assert [row["at_once"] for row in await database.fetch("select at_once from statements")] == [1, 49]
    assert adders.jobs["7"].payload == {"to": "7", "locale": "en"}


async def test_what_is_not_alike_is_added_by_itself(client: Client, database: Database) -> None:
    await client.add_job(send_welcome, ADA)
    await client.add_job(index, [1])
    async with client.combining_adds() as combining, trio.open_nursery() as nursery:
        adders = Adders(combining)
        for name in "abc":
            nursery.start_soon(adders.add, name)
            nursery.start_soon(combining.add_job, index, [1, 2])
        nursery.start_soon(adders.add, "later", JobSpec(priority=3))
        nursery.start_soon(adders.add, "keyed", KEYED)
        nursery.start_soon(adders.add, "queued", JobSpec(queue_name="q"))
    assert not adders.errors
    assert adders.jobs["later"].priority == 3
    assert adders.jobs["keyed"].key == "k"
    assert adders.jobs["queued"].queue_name == "q"
    assert len(await stored_payloads(database)) == 2 + 3 + 3 + 3


async def test_a_task_that_nobody_knew_becomes_known(client: Client, database: Database) -> None:
    async with client.combining_adds() as combining:
        adders = Adders(combining)
        await adders.add_all("abcde")
    assert sorted(adders.jobs) == list("abcde")
    assert len(await stored_payloads(database)) == 5


async def test_one_that_the_server_refuses_does_not_keep_the_others_from_being_added(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA)
    await database.execute(REFUSE_BOB)
    async with client.combining_adds() as combining:
        adders = Adders(combining)
        await adders.add_all(["ada", "bob", "eve", "joe"])
    assert sorted(adders.jobs) == ["ada", "eve", "joe"]
    assert isinstance(adders.errors["bob"], StatementFailed)
    assert "not bob" in str(adders.errors["bob"])
    assert sorted((await stored_payloads(database)).values()) == ["ada", "ada@example.org", "eve", "joe"]


async def test_whoever_is_cancelled_while_waiting_has_added_nothing(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA)
    async with client.combining_adds() as combining, trio.open_nursery() as nursery:
        adders = Adders(combining)
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_jobs in exclusive mode")
            nursery.start_soon(adders.add, "first")
            await wait_until_somebody_waits(database)
            async with trio.open_nursery() as waiting:
                waiting.start_soon(adders.add, "waiting")
                await trio.testing.wait_all_tasks_blocked()
                waiting.cancel_scope.cancel()
    assert sorted((await stored_payloads(database)).values()) == ["ada@example.org", "first"]


async def test_two_that_are_cancelled_at_the_same_time_do_not_keep_another_waiting(
    client: Client, database: Database
) -> None:
    """One of them adds one by one, the other waits for that."""
    await client.add_job(send_welcome, ADA)
    await database.execute(REFUSE_SEVERAL_AND_HOLD_UP)
    with trio.fail_after(PATIENCE):
        async with client.combining_adds() as combining, trio.open_nursery() as nursery:
            adders = Adders(combining)
            async with trio.open_nursery() as cancelled, database.connection() as connection:
                await connection.execute("select pg_advisory_lock(1), pg_advisory_lock(2)")
                nursery.start_soon(adders.add, "first")
                await wait_until_somebody_waits(database)
                for at, name in [(cancelled, "leader"), (cancelled, "waiting"), (nursery, "other")]:
                    at.start_soon(adders.add, name)
                    await trio.testing.wait_all_tasks_blocked()
                await connection.execute("select pg_advisory_unlock(1)")
                with trio.fail_after(PATIENCE):
                    while not await database.fetch_value(LEADER_WAITS):
                        pass
                cancelled.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
    assert sorted((await stored_payloads(database)).values()) == [
        *("ada@example.org", "first", "leader", "other"),
    ]


async def test_whoever_is_cancelled_while_adding_has_no_more_time_than_the_database_gives_at_that_moment(
    client: Client, database: Database
) -> None:
    """A worker that starts within the block shortens it, so that its stop is bounded."""
    await client.add_job(send_welcome, ADA)
    database.cancel_timeout = 600
    async with client.combining_adds() as combining:
        adders = Adders(combining)
        await adders.add("before")
        database.cancel_timeout = 0.01
        async with database.transaction() as connection:
            await connection.execute("lock table graphile_worker._private_jobs in exclusive mode")
            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(adders.add, "cancelled")
                    await wait_until_somebody_waits(database)
                    nursery.cancel_scope.cancel()
    assert isinstance(adders.errors["cancelled"], ConnectionLost)


async def test_all_that_are_sent_together_hear_that_the_session_was_lost(
    database: Database, client: Client
) -> None:
    """Each by an error of its own; the next job is added through a new session."""
    await client.add_job(send_welcome, ADA)
    await database.execute(HOLD_UP_SEVERAL)
    async with client.combining_adds() as combining:
        adders = Adders(combining)
        async with database.transaction() as connection, trio.open_nursery() as nursery:
            await connection.execute("select pg_advisory_xact_lock(1)")
            nursery.start_soon(adders.add_all, "abc")  # one is sent by itself, then the other two
            await wait_until_somebody_waits(database)
            await database.execute(END_SESSION_OF_ADDS)
        await adders.add("later")
    assert len(adders.jobs) == 2
    assert "later" in adders.jobs
    one, other = adders.errors.values()
    assert isinstance(one, ConnectionLost)
    assert isinstance(other, ConnectionLost)
    assert one is not other


@attrs.define(eq=False, slots=False)
class Watched(Session):
    """Calls something after each answer."""

    answered: Callable[[], object] = attrs.field(kw_only=True)

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None:
        row = await super().fetch_row(sql, *arguments)
        self.answered()
        return row


async def test_what_may_have_been_added_is_not_sent_again_whatever_went_wrong(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA)
    answers: list[bool] = []

    def answered() -> None:
        answers.append(trio.lowlevel.currently_ki_protected())
        if len(answers) == 2:
            raise RuntimeError("a mistake of ours")

    session = Watched(database, "adds", None, answered=answered)
    adds = CombinedAdds(database, session)
    errors: list[Exception] = []

    async def add(to: str) -> None:
        try:
            await adds.add_job(NewJob(send_welcome.identifier, encode({"to": to}), JobSpec()))
        except (ConnectionLost, RuntimeError) as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for name in "abcd":
            nursery.start_soon(add, name)
    await adds.aclose()
    assert answers == [True, True], "a KeyboardInterrupt would go wrong, too"
    assert sorted(type(error).__name__ for error in errors) == ["ConnectionLost"] * 2 + ["RuntimeError"]
    assert sorted((await stored_payloads(database)).values()) == ["a", "ada@example.org", "b", "c", "d"]


async def test_after_the_block_nothing_is_added(client: Client) -> None:
    async with client.combining_adds() as combining:
        pass
    with pytest.raises(DatabaseClosed, match="combining_adds") as raised:
        await combining.add_job(send_welcome, ADA)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # our own


async def test_the_end_of_the_block_waits_for_what_was_sent_and_refuses_what_waits(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA)
    async with (
        database.connection() as connection,
        trio.open_nursery() as nursery,
        client.combining_adds() as combining,
    ):
        adders = Adders(combining)
        await connection.execute("begin; lock table graphile_worker._private_jobs in exclusive mode")
        nursery.start_soon(adders.add, "sent")
        await wait_until_somebody_waits(database)
        nursery.start_soon(adders.add, "waiting")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(connection.execute, "commit")
    assert adders.jobs.keys() == {"sent"}
    assert isinstance(adders.errors["waiting"], DatabaseClosed)
    assert await purposes(database) == []


async def test_a_session_that_is_being_opened_when_the_block_is_cancelled_does_not_stay_open(
    client: Client, database: Database, database_url: str
) -> None:
    await client.add_job(send_welcome, ADA)
    is_asked, may_open = trio.Event(), trio.Event()
    may_open.set()

    async def password() -> str:
        is_asked.set()
        await may_open.wait()
        return ""

    async with open_database(database_url, password=password) as slow, trio.open_nursery() as nursery:
        with trio.CancelScope() as cancelled:  # noqa: TID251  # cancelled, not shielded
            async with Client(slow).combining_adds() as combining:
                adders = Adders(combining)
                is_asked, may_open = trio.Event(), trio.Event()
                nursery.start_soon(adders.add, "first")
                await is_asked.wait()
                cancelled.cancel()
        may_open.set()
        await wait_until(lambda: "first" in adders.jobs)
        with trio.fail_after(PATIENCE):
            while await purposes(database):
                pass


async def test_wherever_one_is_cancelled_the_others_are_added_and_nothing_is_added_twice(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA)
    names = list("abcdef")

    async def run(point: int | None) -> int:
        await database.execute("delete from graphile_worker._private_jobs")
        with trio.fail_after(20):
            async with client.combining_adds() as combining:
                adders = Adders(combining)
                cancelled = trio.CancelScope()  # noqa: TID251  # cancelled, not shielded

                async def add_first() -> None:
                    with cancelled:
                        await adders.add("a")
                        await adders.add("again")

                instrument = ActAt(point, cancelled.cancel)
                with instrument.installed():
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(add_first)
                        for name in names[1:]:
                            nursery.start_soon(adders.add, name)
        assert not adders.errors
        assert {*names[1:]} <= adders.jobs.keys()
        stored = await stored_payloads(database)
        assert len(set(stored.values())) == len(stored), "a job was added twice"
        assert adders.jobs.keys() <= set(stored.values()) <= {*names, "again"}
        return instrument.count

    found = await try_points(run, what="one of them was cancelled", sample=None)
    assert found.tried > 5
