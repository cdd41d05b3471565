"""A clock that is set forward or back, the worker's or the server's: no job runs twice, and none waits."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import trio

from tests.environments.clocks import Clock
from tests.environments.networks import (
    PATIENCE,
    Member,
    check_no_job_ran_beside_itself,
    open_server,
    running_worker,
)
from tests.support.tables import locks
from tests.support.waiting import wait_until
from trio_graphile import Client, Database, open_database

LEASE = 15.0
"""In seconds: much less than a step, and so long that a busy machine does not end it."""
HELD = 2
RENEWALS = """
    select count(*)
    from graphile_worker._private_workers
    where last_heartbeat_at > $1::timestamptz
"""


@pytest.fixture
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture
async def odd_url(clock: Clock) -> AsyncIterator[str]:
    """The URL of a server whose clock it is."""
    with open_server(clock.environment) as url:
        yield url


async def runs_on(client: Client, *members: Member) -> None:
    """Have new jobs run, and the heartbeats of all workers renewed, by the server's clock."""
    jobs = {str(job.id) for job in await client.add_raw_jobs([("quick", None)] * 8)}
    with trio.fail_after(PATIENCE):
        now = await client.database.fetch_value("select now()")
        while await client.database.fetch_value(RENEWALS, now) < len(members):
            pass
        while (await client.backlog()).ready:
            pass
    await wait_until(lambda: jobs <= {job for member in members for job in member.said("ran")})
    ran = [job for member in members for job in member.said("ran")]
    assert len(ran) == len(set(ran))


async def test_the_clock_of_a_worker_is_of_no_consequence(
    clock: Clock, database: Database, database_url: str
) -> None:
    client = Client(database)
    async with running_worker(database_url, LEASE, environment=clock.environment) as odd:
        held = {str(job.id) for job in await client.add_raw_jobs([("held", None)] * HELD)}
        await odd.wait_for(lambda odd: odd.said("began").keys() == held)
        async with running_worker(database_url, LEASE) as other:
            for step in ("+1h", "-1h"):
                clock.set(step)
                await runs_on(client, odd, other)
            assert odd.said("ended") == {}
            await odd.stop()
            [wall, *_] = [float(line[2]) for line in odd.lines if line[0] == "ended"]
            assert time.time() - wall > 3000.0, "its clock was set"
            await other.wait_for(lambda other: other.said("began").keys() == held)
            check_no_job_ran_beside_itself(odd, other)
            await other.stop()
    assert not await locks(database)


async def test_no_live_worker_is_dead_because_the_servers_clock_was_set(clock: Clock, odd_url: str) -> None:
    async with (
        open_database(odd_url) as database,
        running_worker(odd_url, LEASE) as first,
        running_worker(odd_url, LEASE) as second,
    ):
        client = Client(database)
        await client.add_raw_jobs([("held", None)] * HELD)
        with trio.fail_after(PATIENCE):
            while (await client.backlog()).locked < HELD:
                pass
        for step in ("+10m", "-10m"):
            before = await database.fetch_value("select clock_timestamp()")
            clock.set(step)
            after = await database.fetch_value("select clock_timestamp()")
            assert abs((after - before).total_seconds()) > 500.0, "its clock was set"
            await runs_on(client, first, second)
        check_no_job_ran_beside_itself(first, second)
        assert first.said("ended") == second.said("ended") == {}
        await first.stop()
        await second.stop()
        assert not await locks(database)
