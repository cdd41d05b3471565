"""A network that breaks and heals: no job is lost, none runs twice, and nobody restarts the worker."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.faults.conftest import Stage
from tests.faults.load import KINDS, PATIENCE, Ending, Load, check_nothing_locked, drain
from tests.faults.network import Proxy, open_proxy
from tests.support.notices import Notices
from tests.support.waiting import wait_until_true
from trio_graphile import (
    Client,
    ConnectionLost,
    Database,
    JobSpec,
    LeaseOptions,
    LocalQueueOptions,
    RecoveryOptions,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile._database import sweeps

HELD = [("held", None, JobSpec())] * 3

Fault = Callable[[Proxy, Notices, Load], Awaitable[None]]


async def refuse(proxy: Proxy, notices: Notices, load: Load) -> None:
    """No new connections: whoever has one goes on."""
    proxy.refuse()
    await load.wait_returned(50)
    await proxy.heal()


async def reset(proxy: Proxy, notices: Notices, load: Load) -> None:
    """All connections break, again and again; new ones can be made at once."""
    for _ in range(5):
        proxy.reset()
        await load.wait_resumed()


async def cut(proxy: Proxy, notices: Notices, load: Load) -> None:
    """All connections break, and no new ones can be made."""
    proxy.refuse()
    proxy.reset()
    for _ in range(4):
        await notices.wait_for_new("claiming failed")
    await proxy.heal()


async def pause(proxy: Proxy, notices: Notices, load: Load) -> None:
    """A black hole that ends before anybody noticed."""
    proxy.swallow()
    await proxy.holding.wait()
    await proxy.heal()


async def silence(proxy: Proxy, notices: Notices, load: Load) -> None:
    """A black hole for so long that the worker gives up its sessions, and new ones fail, too."""
    proxy.swallow()
    await notices.wait_for_new("claiming failed")
    await notices.wait_for_new("claiming failed")
    await proxy.heal()


async def amnesia(proxy: Proxy, notices: Notices, load: Load) -> None:
    """A firewall that forgets its connections: nothing passes on them any more, but all on new ones."""
    proxy.freeze()
    await notices.wait_for_new("claiming failed")


FAULTS: dict[str, Fault] = {f.__name__: f for f in (refuse, reset, cut, pause, silence, amnesia)}


@pytest.mark.parametrize("prefetched", [pytest.param(0, marks=pytest.mark.exhaustive), 20])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_network_costs_time_and_nothing_else(
    fault: str, prefetched: int, stage: Stage
) -> None:
    load = Load()
    options = WorkerOptions(concurrency=4, poll_interval=0.5, local_queue=LocalQueueOptions(size=prefetched))
    worker = Worker(stage.through, load.tasks, options)
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        nursery.start_soon(load.keep_adding, Client(stage.database, load.tasks))
        await load.wait_returned(50)
        await FAULTS[fault](stage.proxy, stage.notices, load)
        healed_at = trio.current_time()
        stage.figures.note("s to the first completed job", await load.wait_resumed())
        await load.finish(stage.database)
        stage.figures.note("s until all was done and recorded", trio.current_time() - healed_at)
        worker.stop()
    assert load.check() == 0, "a job ran again although its first run could be recorded"
    await check_nothing_locked(stage.database)


async def test_a_claim_that_arrives_late_leaves_no_job_behind(stage: Stage) -> None:
    """Given up, sent again on a new session, and then executed after all: nobody waits for its answer."""
    load = Load()
    client = Client(stage.database, load.tasks)
    worker = Worker(stage.through, load.tasks, WorkerOptions(concurrency=1, poll_interval=0.05))
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        await load.add(client)
        await load.wait_until(lambda: load.returned == len(KINDS) - 1)  # by now the statements are prepared
        stage.proxy.freeze()
        await stage.notices.wait_for_new("claiming failed")
        nursery.start_soon(load.keep_adding, client)
        await load.wait_returned(1)
        await stage.proxy.heal()
        await load.wait_returned(100)
        await load.finish(stage.database, patience=5.0)
        worker.stop()
    assert load.check() == 0
    await check_nothing_locked(stage.database)


async def test_a_sweeper_that_is_cut_off_does_not_keep_others_out_for_long(stage: Stage) -> None:
    """What it began is a transaction, and the server hears neither of its end nor of the sweeper's."""
    sweeper = await stage.through.open_session("recovery", cancel_timeout=0.1)
    with contextlib.suppress(ConnectionLost):  # to roll back, it would have to reach the server
        async with sweeps.sweep_transaction(sweeper):
            assert await sweeper.fetch_value(sweeps.TRY_LOCK_SWEEP)
            stage.proxy.freeze()
            began = trio.current_time()
            await wait_until_none_sweeps(stage.database)
            stage.figures.note("s until others may sweep", trio.current_time() - began)
            async with sweeps.sweep_transaction(stage.database) as connection:
                assert await connection.fetch_value(sweeps.TRY_LOCK_SWEEP)
    await sweeper.aclose()


@pytest.mark.parametrize("milliseconds", [80, 200])
async def test_a_slow_wire_leaves_a_short_lease_renewed(
    milliseconds: int, database_url: str, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """To open a session takes many round trips, and more than the time between two renewals."""
    load = Load()
    options = WorkerOptions(concurrency=3, lease=LeaseOptions(length=6.0))
    async with open_proxy(database_url) as proxy:
        proxy.round_trip = milliseconds / 1000
        async with open_database(proxy.url) as through, trio.open_nursery() as nursery:
            worker = Worker(through, load.tasks, options)
            await nursery.start(worker.run)
            await load.add(Client(database, load.tasks), HELD)
            await load.wait_until(lambda: len(load.runs) == len(HELD))
            await wait_for_heartbeats(database, 2)
            assert await database.fetch_value(END_LEASE_SESSION) == 1
            await wait_for_heartbeats(database, 2)
            load.release.set()
            await drain(database)
            worker.stop()
    assert "interrupting all handlers" not in caplog.text
    assert caplog.text.count("renewing the lease failed") <= 1  # when its session was lost
    assert load.check() == 0


END_LEASE_SESSION = """
    select count(pg_terminate_backend(pid))
    from pg_stat_activity
    where datname = current_database() and application_name = 'trio_graphile lease'
"""


async def wait_for_heartbeats(database: Database, count: int) -> None:
    for _ in range(count):
        last = await database.fetch_value(
            "select max(last_heartbeat_at) from graphile_worker._private_workers"
        )
        await wait_until_true(
            database,
            "select max(last_heartbeat_at) > $1::timestamptz from graphile_worker._private_workers",
            last,
            patience=PATIENCE,
        )


async def wait_until_none_sweeps(database: Database) -> None:
    """Take the lock of Rust's sweepers, which waits for ours."""
    async with database.transaction() as connection:
        with trio.fail_after(PATIENCE):
            await connection.execute("select pg_advisory_xact_lock(1196905043, 1398228304)")


async def test_a_worker_that_is_cut_off_stops_its_handlers_before_another_runs_their_jobs(
    stage: Stage,
) -> None:
    load, length = Load(), 2.0
    options = WorkerOptions(
        concurrency=3,
        poll_interval=0.5,
        lease=LeaseOptions(length=length),
        recovery=RecoveryOptions(sweep_threshold=length, sweep_interval=0.2, recovery_delay=0.0),
    )
    cut_off, other = (Worker(database, load.tasks, options) for database in (stage.through, stage.database))
    async with trio.open_nursery() as nursery:
        await nursery.start(cut_off.run)
        await load.add(Client(stage.database, load.tasks), HELD)
        await load.wait_until(lambda: len(load.runs) == len(HELD))
        await nursery.start(other.run)
        stage.proxy.swallow()
        began = trio.current_time()
        await load.wait_until(lambda: all(len(runs) > 1 for runs in load.runs.values()))
        stage.figures.note(f"s until another runs them, of {length} at least", trio.current_time() - began)
        assert [run.ending for runs in load.runs.values() for run in runs] == [Ending.CANCELLED, None] * 3
        await stage.proxy.heal()
        load.release.set()
        await drain(stage.database)
        cut_off.stop()
        other.stop()
    assert load.check() == 0
    await check_nothing_locked(stage.database)
