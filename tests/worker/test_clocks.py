"""The server's clock is set forward: whoever lives looks as if long silent, and is not taken for dead."""

from __future__ import annotations

import attrs
import pytest

from trio_graphile import Client, Database, LeaseOptions, RecoveryOptions, SweepReport, WorkerOptions
from trio_graphile._database import worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._interceptors.chains import NO_CHAINS
from trio_graphile._model.recovery import ResetReport
from trio_graphile._worker.clocks import ServerClock, find_clock
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.maintenance import Maintenance

THRESHOLD = 60.0
ME = "trio_graphile_me"
OTHER = "trio_graphile_other"
OPTIONS = WorkerOptions(
    lease=LeaseOptions(length=THRESHOLD), recovery=RecoveryOptions(sweep_threshold=THRESHOLD)
)


@attrs.define
class OurClock:
    """Ours set back is the server's set forward, as far as anybody can tell."""

    offset: float = 0.0

    def __call__(self) -> float:
        return find_clock()() + self.offset


@pytest.fixture
def our_clock() -> OurClock:
    return OurClock()


@pytest.fixture
def server_clock(our_clock: OurClock) -> ServerClock:
    return ServerClock(THRESHOLD, our_clock)


@pytest.fixture
async def maintenance(database: Database, client: Client, server_clock: ServerClock) -> Maintenance:
    await worker_registry.heartbeat(database, ME)
    assert await server_clock.is_steady(database)
    return maintenance_by(server_clock, database)


def maintenance_by(server_clock: ServerClock, database: Database) -> Maintenance:
    assert OPTIONS.recovery is not None
    return Maintenance(
        database=database,
        options=OPTIONS.recovery,
        worker_id=ME,
        ledger=Ledger(),
        chains=NO_CHAINS,
        server_clock=server_clock,
        cancel_timeout=5.0,
    )


async def add_another_worker(client: Client) -> None:
    """Have a job locked by another worker, which was last heard of two minutes ago."""
    await client.add_raw_job("quick")
    await worker_registry.heartbeat(client.database, OTHER)
    assert await claims.get_jobs(client.database, OTHER, ["quick"], 1)
    await silence(client.database, OTHER)


async def silence(database: Database, worker_id: str) -> None:
    await database.execute(
        """
        update graphile_worker._private_workers
        set last_heartbeat_at = now() - interval '2 minutes'
        where id = $1::text
        """,
        worker_id,
    )


async def swept(maintenance: Maintenance) -> SweepReport:
    return (await maintenance.sweep()).report


ANOTHER = SweepReport(worker_ids=(OTHER,), recovered_jobs=1)


async def test_a_clock_that_goes_as_ours_does_is_steady(database: Database, our_clock: OurClock) -> None:
    clock = ServerClock(10.0, our_clock)
    assert await clock.is_steady(database)
    assert await clock.is_steady(database)
    our_clock.offset += 600  # as good as set back: nobody looks silent
    assert await clock.is_steady(database)
    our_clock.offset -= 0.5
    assert await clock.is_steady(database)
    our_clock.offset -= 30
    assert not await clock.is_steady(database)
    assert not await clock.is_steady(database)
    our_clock.offset += 10
    assert await clock.is_steady(database)


async def test_nobody_is_dead_until_whoever_lives_has_had_time_to_renew(
    client: Client, maintenance: Maintenance, our_clock: OurClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even if the sweeper itself has renewed already: others may not have."""
    await add_another_worker(client)
    our_clock.offset -= 120
    assert await swept(maintenance) == SweepReport()
    assert "the server's clock was set forward: no worker counts as dead for 60 s" in caplog.text
    our_clock.offset += THRESHOLD  # goes by on both clocks, or on ours alone, which is no step either
    assert await swept(maintenance) == ANOTHER


async def test_a_sweeper_that_is_silent_itself_takes_nobody_for_dead(
    client: Client, maintenance: Maintenance
) -> None:
    await add_another_worker(client)
    await silence(client.database, ME)
    assert await swept(maintenance) == SweepReport()
    await worker_registry.heartbeat(client.database, ME)
    assert await swept(maintenance) == ANOTHER


async def test_old_locks_are_no_older_because_a_clock_was_set_forward(
    client: Client, maintenance: Maintenance, our_clock: OurClock
) -> None:
    await add_another_worker(client)
    await client.database.execute(
        "update graphile_worker._private_jobs set locked_at = now() - interval '5 hours'"
    )
    our_clock.offset -= 18_000
    assert await maintenance.release_old_locks() == ResetReport()
    unmoved = maintenance_by(ServerClock(THRESHOLD, our_clock), client.database)
    assert await unmoved.release_old_locks() == ResetReport(jobs=1)
