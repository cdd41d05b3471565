"""A worker gives back what is locked by it and what it does not know of, while claims go on."""

from __future__ import annotations

import pytest
import trio

from tests.database.sessions import wait_until_somebody_waits
from tests.support.handlers import Handlers
from tests.support.maintenance import have_chores_done_at_once, have_the_first_claim_forget
from tests.support.tables import locked_queues, locks
from tests.support.waiting import PATIENCE, wait_until
from tests.support.workers import SOON, make_worker, running
from trio_graphile import Client, Database, Job, JobSpec, RecoveryOptions
from trio_graphile._database import unknown_locks
from trio_graphile._database.claiming import claims
from trio_graphile._interceptors.chains import NO_CHAINS
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.maintenance import Maintenance

ME = "trio_graphile_me"


def maintenance_of(database: Database, ledger: Ledger) -> Maintenance:
    return Maintenance(
        database=database,
        options=RecoveryOptions(),
        worker_id=ME,
        ledger=ledger,
        chains=NO_CHAINS,
        server_clock=ServerClock(60),
        cancel_timeout=5.0,
    )


async def look_while_a_claim_ends(database: Database, ledger: Ledger, jobs: list[Job]) -> None:
    """Have it look while the claim that has locked these jobs has no answer yet."""
    async with trio.open_nursery() as nursery, ledger.claiming:
        ledger.claim_sent()
        nursery.start_soon(maintenance_of(database, ledger).return_unknown)
        await wait_until(lambda: ledger.claiming.statistics().tasks_waiting == 1)
        ledger.claimed(jobs)


async def test_what_a_claim_brings_while_it_is_looked_for_is_kept_and_the_rest_given_back(
    database: Database, client: Client
) -> None:
    ledger = Ledger()
    await client.add_raw_jobs(
        [("a", None, JobSpec(queue_name=queue)) for queue in ("p", "q")] + [("a", None)]
    )
    jobs = await claims.get_jobs(database, ME, ["a"], 3)
    [known] = [job for job in jobs if job.queue_name == "q"]
    await look_while_a_claim_ends(database, ledger, [known])
    rows = await database.fetch("select id from graphile_worker._private_jobs where locked_by is not null")
    assert [row["id"] for row in rows] == [known.id]
    assert await locked_queues(database) == {"q": ME}


async def test_ended_before_queues_are_free_it_leaves_them_to_the_end_of_the_worker(
    database: Database, client: Client
) -> None:
    ledger = Ledger()
    maintenance = maintenance_of(database, ledger)
    await client.add_raw_jobs([("a", None, JobSpec(queue_name="q"))])
    await claims.get_jobs(database, ME, ["a"], 1)
    assert ledger.is_certain(trusts_server=True)
    async with database.transaction() as connection, trio.open_nursery() as nursery:
        await connection.execute("select from graphile_worker._private_job_queues for update")
        nursery.start_soon(maintenance.return_unknown)
        await wait_until_somebody_waits(database)
        nursery.cancel_scope.cancel()
    assert await locks(database) == [("queue q", ME)]
    assert not ledger.is_certain(trusts_server=True)
    assert await unknown_locks.reconcile(database, ME, []) == set()
    assert await locks(database) == []


async def test_a_worker_that_knows_of_all_that_it_has_locked_stays_certain(
    database: Database, client: Client
) -> None:
    ledger = Ledger()
    await client.add_raw_jobs([("a", None, JobSpec(queue_name="q"))])
    jobs = await claims.get_jobs(database, ME, ["a"], 1)
    await look_while_a_claim_ends(database, ledger, jobs)
    ledger.ended(jobs[0])
    assert ledger.is_certain(trusts_server=True)


async def test_a_worker_that_ends_before_it_gave_back_what_it_found_leaves_nothing_locked(
    database: Database, client: Client, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_chores_done_at_once(monkeypatch)
    have_the_first_claim_forget(monkeypatch)
    found = trio.Event()

    async def wait(*_: object) -> None:
        found.set()
        await trio.sleep_forever()

    monkeypatch.setattr(unknown_locks, "still_unknown", wait)
    await client.add_raw_jobs([("held", None), ("held", None, JobSpec(queue_name="q"))])
    async with running(make_worker(database, handlers.tasks, shutdown=SOON)) as run:
        with trio.fail_after(PATIENCE):
            await found.wait()
        report = await run.stop()
    assert report.returned == 1
    assert await locks(database) == []
