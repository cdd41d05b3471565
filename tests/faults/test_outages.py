"""No handler is interrupted while the database is gone, unless the lease is about to end.

For four minutes: `OWN_LOOPBACK=1 unshare --net sh -c "ip link set lo up; pytest --exhaustive --seconds 240
tests/faults/test_outages.py"`.
"""

from __future__ import annotations

import os

import pytest
import trio

from tests.faults.takeovers import OWN_LOOPBACK, open_trial
from tests.support.tables import Table
from trio_graphile import Client, JobSpec, TaskRegistry

HELD = """
    select exists (
      select from graphile_worker._private_workers as workers
      where workers.id = $1::text and workers.metadata #> '{presence,key}' is not null
    )
"""
ALONE = pytest.mark.skipif(not os.environ.get(OWN_LOOPBACK), reason="needs a loopback interface of its own")


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "outage",
    [
        "stop_server",
        "freeze_server",
        pytest.param("crash", marks=pytest.mark.exhaustive),
        pytest.param("cut_off", marks=ALONE),
    ],
)
async def test_no_handler_is_interrupted_while_the_database_is_gone(
    request: pytest.FixtureRequest, outage: str
) -> None:
    seconds = max(request.config.getoption("--seconds"), 12.0)  # longer than others would wait
    async with open_trial(seed=1) as trial:
        worker = await trial.start(trial.server.tcp_url_for())
        jobs = [("lasting", seconds + 4, JobSpec())]
        await Client(trial.database, TaskRegistry()).add_raw_jobs(jobs)
        await trial.fleet.wait_until(lambda: bool(worker.runs))
        other = await trial.start(trial.server.url)
        for member in (worker, other):
            await Table(trial.database).wait_until(HELD, member.worker_id)
        async with getattr(trial, outage)():
            await trio.sleep(seconds)
        with trio.fail_after(90):
            await trial.fleet.wait_until(lambda: worker.runs[0].ending is not None)
        assert worker.runs[0].ending == "returned"
        assert not other.runs
