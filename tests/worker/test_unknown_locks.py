"""A worker gives back what is locked by it and what it does not know of, while claims go on."""

from __future__ import annotations

import trio

from tests.support.tables import locked_queues
from tests.support.waiting import wait_until
from trio_graphile import Client, Database, JobSpec, RecoveryOptions
from trio_graphile._database.claiming import claims
from trio_graphile._interceptors.chains import NO_CHAINS
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.maintenance import Maintenance

ME = "trio_graphile_me"


async def test_what_a_claim_brings_while_it_is_looked_for_is_kept_and_the_rest_given_back(
    database: Database, client: Client
) -> None:
    ledger = Ledger()
    maintenance = Maintenance(
        database=database,
        options=RecoveryOptions(),
        worker_id=ME,
        ledger=ledger,
        chains=NO_CHAINS,
        server_clock=ServerClock(60),
        cancel_timeout=5.0,
    )
    await client.add_raw_jobs(
        [("a", None, JobSpec(queue_name=queue)) for queue in ("p", "q")] + [("a", None)]
    )
    jobs = await claims.get_jobs(database, ME, ["a"], 3)
    [known] = [job for job in jobs if job.queue_name == "q"]
    async with trio.open_nursery() as nursery, ledger.claiming:
        ledger.claim_sent()
        nursery.start_soon(maintenance.return_unknown)
        await wait_until(lambda: ledger.claiming.statistics().tasks_waiting == 1)
        ledger.claimed([known])
    rows = await database.fetch("select id from graphile_worker._private_jobs where locked_by is not null")
    assert [row["id"] for row in rows] == [known.id]
    assert await locked_queues(database) == {"q": ME}
