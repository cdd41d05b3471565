"""The machine of a worker vanishes: the server is told nothing, and keeps its sessions, with all they locked.

Our sessions tell the server how soon to notice. Until then others get on, and then they do the rest, once.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import attrs
import pytest
import trio

from tests.environments.bouncer import PROGRAM
from tests.environments.networks import CLIENT, Lab, Member
from tests.support.tables import locks
from tests.support.waiting import PATIENCE, wait_until_true
from trio_graphile import Client, Database, JobSpec

LEASE = 6.0
PATIENT_FLUSH = 60.0
"""With it, a session that writes outcomes waits for locks for longer than the test holds any."""
MARGIN = 10.0
"""What a machine that is busy may take longer, in seconds."""


@attrs.frozen
class Notice:
    """How a server is told to notice that a machine is gone, and within how many seconds it should."""

    within: float
    settings: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"FAR_SETTINGS": json.dumps(self.settings)}


SOONER = Notice(
    10.0,
    {"tcp_keepalives_idle": "8", "tcp_keepalives_interval": "1", "tcp_user_timeout": "10000"},
)
AS_WE_SET_IT = Notice(60.0)
NOTICES = [SOONER, pytest.param(AS_WE_SET_IT, marks=pytest.mark.exhaustive)]

SESSION_THERE = "select count(*) > 0 from pg_stat_activity where client_addr = $1::text::inet"
SESSION_GONE = "select count(*) = 0 from pg_stat_activity where client_addr = $1::text::inet"
SESSION_WAITS = """
    select exists (
      select from pg_stat_activity
      where client_addr = $1::text::inet
        and wait_event_type = 'Lock'
        and application_name like $2::text
    )
"""
SILENT_FOR_LONG = "update graphile_worker._private_workers set last_heartbeat_at = now() - interval '1 hour'"
LEFT = "select count(*) = $1::bigint from graphile_worker._private_jobs"


@pytest.fixture
async def near(near: Database) -> Database:
    """Have the tables that the handlers write."""
    await near.execute("create table public.account (balance bigint)")
    await near.execute("insert into public.account values (0)")
    await near.execute("create table public.done (id bigint)")
    return near


async def effects(near: Database) -> tuple[int, list[int]]:
    """Return how often the account was written, and which jobs have left a note."""
    rows = await near.fetch("select id from public.done order by id")
    return await near.fetch_value("select balance from public.account"), [row["id"] for row in rows]


@contextlib.asynccontextmanager
async def lock_account(near: Database) -> AsyncIterator[None]:
    """Have whoever writes the account wait until the body ends."""
    async with near.transaction() as connection:
        await connection.execute("select balance from public.account for update")
        yield


async def wait_noticed(near: Database, notice: Notice, lost_at: float) -> None:
    """Wait until the server has ended the sessions of the machine, which must be in time."""
    patience = lost_at + notice.within + MARGIN - trio.current_time()
    await wait_until_true(near, SESSION_GONE, CLIENT, patience=patience)


@pytest.mark.parametrize("notice", NOTICES)
async def test_others_get_on_while_a_vanished_machine_is_in_a_transaction(
    lab: Lab, url: str, near: Database, notice: Notice
) -> None:
    """Its session is idle in a transaction that has locked the row of its job, and one that others write."""
    client = Client(near)
    async with lab.worker(url, LEASE, far=True, environment=notice.environment) as far:
        dwelling, held = [(await client.add_raw_job(name)).id for name in ("dwell", "held")]
        await far.wait_for(lambda far: bool(far.said("wrote")) and str(held) in far.said("began"))
        lab.lose(far)
        lost_at = trio.current_time()
        await near.execute(SILENT_FOR_LONG)
        with trio.fail_after(notice.within / 2):
            assert (await client.sweep_stale_workers(recovery_delay=0.0)).job_ids == (held,)
        assert [what for what, _ in await locks(near)] == [f"job {dwelling}"]
        async with lab.worker(url, LEASE, far=False) as other:
            quick, touching = [str((await client.add_raw_job(name)).id) for name in ("quick", "touch")]
            await other.wait_for(lambda other: quick in other.said("ran"))
            await other.wait_for(lambda other: {str(held), touching} <= other.said("began").keys())
            await wait_noticed(near, notice, lost_at)
            await other.wait_for(lambda other: str(dwelling) in other.said("wrote"))
            await wait_until_true(near, LEFT, 1)
            await other.stop()
    assert await effects(near) == (2, [dwelling])
    assert not await locks(near)


@pytest.mark.parametrize("notice", NOTICES)
async def test_a_transaction_whose_end_a_vanished_machine_never_asked_for_is_undone(
    lab: Lab, url: str, near: Database, notice: Notice
) -> None:
    """The job is deleted in it, and the answer to that is under way for ever."""
    client = Client(near)
    async with lab.worker(url, LEASE, far=True, environment=notice.environment) as far:
        async with near.transaction() as row:
            async with lock_account(near):
                job = (await client.add_raw_job("transfer")).id
                await far.wait_for(lambda far: bool(far.said("began")))
                await row.execute(LOCK_ROW, job)
            await far.wait_for(lambda far: bool(far.said("wrote")))
            await wait_until_true(near, SESSION_WAITS, CLIENT, "%")
            lab.lose(far)
            lost_at = trio.current_time()
        async with lab.worker(url, LEASE, far=False) as other:
            quick = str((await client.add_raw_job("quick")).id)
            await other.wait_for(lambda other: quick in other.said("ran"))
            await wait_noticed(near, notice, lost_at)
            await wait_until_true(near, LEFT, 0)
            await other.stop()
        assert str(job) in other.said("wrote")
    assert await effects(near) == (1, [job])


@pytest.mark.skipif(PROGRAM is None, reason="there is no pgbouncer")
@pytest.mark.parametrize(
    "settings",
    [
        {"tcp_keepidle": 4, "tcp_keepintvl": 1, "tcp_user_timeout": 5000},
        {"idle_transaction_timeout": 5},
    ],
)
async def test_a_pooler_in_between_can_be_told_how_soon_to_notice(
    lab: Lab, url: str, near: Database, settings: Mapping[str, int]
) -> None:
    with lab.pooler(pool_mode="transaction", **settings) as port:
        pooled = {"FAR_POOLED": "yes"}
        async with lab.worker(url, LEASE, far=True, port=port, environment=pooled) as far:
            job = (await Client(near).add_raw_job("dwell")).id
            await far.wait_for(lambda far: bool(far.said("wrote")))
            lab.lose(far)
            await wait_until_true(near, NOTHING_OPEN, patience=5.0 + MARGIN)
            async with lab.worker(url, LEASE, far=False) as other:
                await other.wait_for(lambda other: bool(other.said("wrote")))
                await other.stop()
    assert await effects(near) == (1, [job])


NOTHING_OPEN = """
    select not exists (
      select from pg_stat_activity where backend_xid is not null and datname = current_database()
    )
"""
LOCK_ROW = "select id from graphile_worker._private_jobs where id = $1::bigint for no key update"


async def test_jobs_whose_claim_is_never_heard_of_run_once(lab: Lab, url: str, near: Database) -> None:
    client = Client(near)
    for statement in HOLD_UP_CLAIMS:
        await near.execute(statement)
    async with lab.worker(url, LEASE, far=True) as far:
        async with near.transaction() as gate:
            await gate.execute("lock table public.gate")
            jobs = await client.add_raw_jobs(
                [("quick", None), ("quick", None), ("quick", None, JobSpec(queue_name="serial"))]
            )
            await wait_until_true(near, SESSION_WAITS, CLIENT, "%claim")
            lab.lose(far)
        await wait_until_true(near, CLAIMED)
        assert await near.fetch_value(SESSION_THERE, CLIENT)
        async with lab.worker(url, LEASE, far=False) as other:
            await other.wait_for(lambda other: len(other.said("ran")) == len(jobs))
            await wait_until_true(near, LEFT, 0)
            await other.stop()
        assert not far.said("ran")
    assert runs(other) == {str(job.id): 1 for job in jobs}
    assert not await locks(near)


HOLD_UP_CLAIMS = (
    "create table public.gate ()",
    """
    create function public.pass() returns trigger language plpgsql as $$
      begin
        lock table public.gate in access share mode;
        return new;
      end
    $$
    """,
    """
    create trigger hold_up before update on graphile_worker._private_jobs
      for each row when (old.locked_by is null) execute function public.pass()
    """,
)
"""A claim waits in its middle, with rows that it has locked, while somebody has locked the gate."""
CLAIMED = "select bool_or(locked_by is not null) from graphile_worker._private_jobs"


async def test_a_job_whose_outcome_is_written_unheard_does_not_run_again(
    lab: Lab, url: str, near: Database
) -> None:
    client = Client(near)
    async with lab.worker(url, LEASE, PATIENT_FLUSH, far=True) as far:
        await client.add_raw_job("touch")  # the second time, the statement for it is prepared
        await wait_until_true(near, LEFT, 0)
        async with near.transaction() as table:
            async with lock_account(near):
                job = str((await client.add_raw_job("touch")).id)
                await far.wait_for(lambda far: job in far.said("began"))
                await table.execute("lock table graphile_worker._private_jobs in share mode")
            await wait_until_true(near, SESSION_WAITS, CLIENT, "%outcomes")
            lab.lose(far)
        await wait_until_true(near, LEFT, 0, patience=LEASE)
        assert await near.fetch_value(SESSION_THERE, CLIENT)
        async with lab.worker(url, LEASE, far=False) as other:
            quick = str((await client.add_raw_job("quick")).id)
            await other.wait_for(lambda other: quick in other.said("ran"))
            await wait_until_true(near, FORGOTTEN, next(iter(far.said("ready"))), patience=LEASE + PATIENCE)
            await other.stop()
        assert not other.said("began")
    assert await effects(near) == (2, [])


FORGOTTEN = "select not exists (select from graphile_worker._private_workers where id = $1::text)"


def runs(member: Member) -> Counter[str]:
    """Return how often a worker ran each job."""
    return Counter(line[1] for line in member.lines if line[0] == "ran")
