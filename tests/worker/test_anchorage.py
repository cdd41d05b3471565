"""The anchorage: nobody takes the jobs of a worker that lives; one that cannot show it lets go of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import attrs
import pytest
import trio

from tests.faults.network import Proxy, open_proxy
from tests.support.handlers import Handlers
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import make_worker, running
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    JobSpec,
    OptionInvalid,
    PresenceOptions,
    RecoveryOptions,
    ShutdownOptions,
    open_database,
)
from trio_graphile.embedded import PostgresServer, embedded_postgres

BRIEF = PresenceOptions(probe_interval=0.3, probe_timeout=0.3, fence_after=1.2, grace=2.0)
RECOVERY = RecoveryOptions(presence=BRIEF)

make_present_worker = partial(
    make_worker, recovery=RECOVERY, poll_interval=0.1, shutdown=ShutdownOptions(grace_period=1.0)
)

ANCHORS = """
    select workers.id, workers.metadata -> 'presence' ->> 'key' as key, locks.pid
    from graphile_worker._private_workers as workers
    join pg_locks as locks
      on locks.locktype = 'advisory'
      and ((locks.classid::bigint << 32) | locks.objid::bigint)::text
        = workers.metadata -> 'presence' ->> 'key'
"""


async def wait_anchored(database: Database, worker_id: str, *, but: str = "") -> tuple[str, int]:
    """Wait until a lock stands for the worker; return its key and the process that has it."""
    with trio.fail_after(PATIENCE):
        while True:
            for row in await database.fetch(ANCHORS):
                if row["id"] == worker_id and row["key"] != but:
                    return row["key"], row["pid"]
            await trio.sleep(0.02)


@attrs.define(eq=False)
class Rivals:
    """A worker that goes through a proxy and runs a job, and another that would take it."""

    database: Database
    proxy: Proxy
    worker_id: str
    handlers: Handlers
    others: Handlers
    key: str
    process: int


@pytest.fixture
async def rivals(database: Database, database_url: str, client: Client) -> AsyncIterator[Rivals]:
    handlers, others = Handlers(), Handlers()
    await client.add_raw_jobs([("held", None, JobSpec())])
    async with open_proxy(database_url) as proxy, open_database(proxy.url) as through:
        worker = make_present_worker(through, handlers.tasks)
        async with running(worker):
            await handlers.wait_started(1)
            key, process = await wait_anchored(database, worker.worker_id)
            rival = make_present_worker(database, others.tasks)
            async with running(rival):
                await wait_anchored(database, rival.worker_id)
                yield Rivals(database, proxy, worker.worker_id, handlers, others, key, process)
                handlers.release.set()
                others.release.set()
                await proxy.heal()


async def check_undisturbed(rivals: Rivals) -> None:
    """Check that the job goes on where it was, and ends there."""
    assert not rivals.handlers.cancelled
    rivals.handlers.release.set()
    await rivals.handlers.wait_ended(1)
    assert not rivals.others.started


async def test_a_session_that_somebody_terminates_is_replaced(rivals: Rivals) -> None:
    await rivals.database.execute("select pg_terminate_backend($1::integer)", rivals.process)
    await wait_anchored(rivals.database, rivals.worker_id, but=rivals.key)
    await check_undisturbed(rivals)


async def test_all_sessions_that_are_reset_come_back(rivals: Rivals) -> None:
    for _ in range(3):
        rivals.proxy.reset()
        rivals.key, _ = await wait_anchored(rivals.database, rivals.worker_id, but=rivals.key)
    await check_undisturbed(rivals)


async def test_a_session_that_is_half_open_is_replaced(rivals: Rivals) -> None:
    rivals.proxy.freeze()
    await wait_anchored(rivals.database, rivals.worker_id, but=rivals.key)
    await check_undisturbed(rivals)


async def test_silence_interrupts_nobody(rivals: Rivals) -> None:
    """The server keeps the session, so nobody takes the job, however long it takes."""
    rivals.proxy.swallow()
    await rivals.proxy.holding.wait()
    await trio.sleep(BRIEF.grace * 2)  # nothing is to happen
    await rivals.proxy.heal()
    await wait_anchored(rivals.database, rivals.worker_id, but="")
    await check_undisturbed(rivals)


async def test_a_worker_that_has_lost_its_sessions_for_good_lets_go_before_others_take_over(
    rivals: Rivals,
) -> None:
    rivals.proxy.refuse()
    rivals.proxy.reset()
    await rivals.handlers.wait_cancelled(1)
    assert not rivals.others.started
    await rivals.others.wait_started(1)
    [job] = rivals.others.started
    assert job.attempts == 1


async def test_a_worker_that_comes_back_runs_jobs_again(rivals: Rivals, client: Client) -> None:
    rivals.proxy.refuse()
    rivals.proxy.reset()
    await rivals.others.wait_started(1)
    rivals.handlers.release.set()
    await rivals.proxy.heal()
    await wait_anchored(rivals.database, rivals.worker_id, but=rivals.key)
    await client.add_raw_jobs([("held", None, JobSpec())] * 8)  # more than the other has slots for
    await rivals.handlers.wait_started(2)


@pytest.fixture
async def server() -> AsyncIterator[PostgresServer]:
    async with embedded_postgres() as server:
        yield server


async def test_a_server_that_is_down_for_long_interrupts_nobody(server: PostgresServer) -> None:
    handlers, others = Handlers(), Handlers()
    async with open_database(server.url) as database:
        worker = make_present_worker(database, handlers.tasks)
        async with running(worker), running(make_present_worker(database, others.tasks)):
            await wait_anchored(database, worker.worker_id)
            client = Client(database, handlers.tasks)
            await client.add_raw_jobs([("held", None, JobSpec())])
            await wait_until(lambda: bool(handlers.started or others.started))
            key, _ = await wait_anchored(database, worker.worker_id)
            await server.kill()
            await trio.sleep(BRIEF.grace * 2)  # nothing is to happen
            await server.start()
            with trio.fail_after(PATIENCE * 3):
                await wait_anchored_again(database, worker.worker_id, key)
            assert not handlers.cancelled
            assert not others.cancelled
            handlers.release.set()
            others.release.set()
            await wait_until(lambda: bool(handlers.ended or others.ended))
            assert len(handlers.started) + len(others.started) == 1


async def wait_anchored_again(database: Database, worker_id: str, key: str) -> None:
    while True:
        try:
            await wait_anchored(database, worker_id, but=key)
        except DatabaseError:
            await trio.sleep(0.1)
        else:
            return


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
def test_options_that_leave_no_time_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionInvalid, match="fence_after"):
        PresenceOptions(**wrong)
