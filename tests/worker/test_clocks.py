"""The server's clock is set forward: whoever lives looks as if long silent, and is not taken for dead."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import attrs
import pytest

from tests.support.handlers import Handlers
from trio_graphile import Client, Database, LeaseOptions, RecoveryOptions, SweepReport, WorkerOptions
from trio_graphile._database import claims, fleet
from trio_graphile._worker.clocks import ServerClock, find_clock
from trio_graphile._worker.holdings import Holdings
from trio_graphile._worker.ledger import Ledger
from trio_graphile.hooks._chains import NO_CHAINS

THRESHOLD = 60.0
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
async def holdings(database: Database, handlers: Handlers, our_clock: OurClock) -> AsyncIterator[Holdings]:
    holdings = Holdings(database, handlers.tasks, OPTIONS, "trio_graphile_me", patience=5.0, ledger=Ledger())
    holdings.server_clock = ServerClock(our_clock)
    await holdings.prepare()
    yield holdings
    await holdings.aclose()


async def add_another_worker(client: Client) -> None:
    """Have a job locked by another worker, which was last heard of two minutes ago."""
    await client.add_raw_job("quick")
    await fleet.heartbeat(client.database, OTHER)
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


async def swept(holdings: Holdings) -> SweepReport:
    return (await holdings.sweep(NO_CHAINS)).report


ANOTHER = SweepReport(worker_ids=(OTHER,), recovered_jobs=1)


async def test_a_clock_that_goes_as_ours_does_is_steady(database: Database, our_clock: OurClock) -> None:
    clock = ServerClock(our_clock)
    assert await clock.steady_for(database, tolerance=1.0) == math.inf
    assert await clock.steady_for(database, tolerance=1.0) == math.inf
    our_clock.offset += 600  # as good as set back: nobody looks silent
    assert await clock.steady_for(database, tolerance=1.0) == math.inf
    our_clock.offset -= 0.5
    assert await clock.steady_for(database, tolerance=1.0) == math.inf
    our_clock.offset -= 30
    assert await clock.steady_for(database, tolerance=1.0) == 0
    assert 0 < await clock.steady_for(database, tolerance=1.0) < 30


async def test_nobody_is_dead_until_whoever_lives_has_had_time_to_renew(
    client: Client, holdings: Holdings, our_clock: OurClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even if the sweeper itself has renewed already: others may not have."""
    await add_another_worker(client)
    our_clock.offset -= 120
    assert await swept(holdings) == SweepReport()
    assert "the server's clock was set forward: nobody is taken for dead for 60 s" in caplog.text
    # What goes by, goes by on both clocks.
    holdings.server_clock = attrs.evolve(
        holdings.server_clock, steady_since=our_clock() - THRESHOLD, asked_at=None
    )
    assert await swept(holdings) == ANOTHER


async def test_a_sweeper_that_is_silent_itself_takes_nobody_for_dead(
    client: Client, holdings: Holdings
) -> None:
    await add_another_worker(client)
    await silence(client.database, holdings.worker_id)
    assert await swept(holdings) == SweepReport()
    await fleet.heartbeat(client.database, holdings.worker_id)
    assert await swept(holdings) == ANOTHER


async def test_old_locks_are_no_older_because_a_clock_was_set_forward(
    client: Client, holdings: Holdings, our_clock: OurClock
) -> None:
    await add_another_worker(client)
    await client.database.execute(
        "update graphile_worker._private_jobs set locked_at = now() - interval '5 hours'"
    )
    our_clock.offset -= 18_000
    assert (await holdings.release_old_locks()).jobs == 0
    holdings.server_clock = ServerClock(our_clock)
    assert (await holdings.release_old_locks()).jobs == 1
