"""Workers at the other end of a bad network, with the kernel's own TCP: late, lossy, narrow, or cut off.

`tests/faults/test_network.py` does the same with a proxy, which breaks connections but delays no packet.
"""

from __future__ import annotations

from collections import Counter

import pytest
import trio

from tests.environments.far_worker import GRACE, SLOTS
from tests.environments.networks import Lab, check_no_job_ran_beside_itself
from tests.support.tables import locks
from trio_graphile import Client, Database

MARGIN = 5.0
"""What a process may need to end besides, in seconds, on a machine that is busy."""
FLUSH = 2.0
PATIENT_FLUSH = 20.0
"""For a wire on which a statement takes a second, and a session that is lost several."""
HELD, QUICK = 2, 20


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param("delay=0.1", marks=pytest.mark.exhaustive),
        "delay=0.005 loss=0.05",
        "delay=0.02 rate=12500",
        pytest.param("delay=0.1 loss=0.05 rate=12500", marks=pytest.mark.exhaustive),
    ],
)
async def test_a_bad_wire_costs_time_and_nothing_else(lab: Lab, url: str, near: Database, wire: str) -> None:
    """200 ms there and back, 5 % of the packets lost, 100 kbit/s, and all of it."""
    lab.set_wire(wire)
    client = Client(near)
    async with lab.worker(url, 30.0, PATIENT_FLUSH, far=True) as far:
        await client.add_raw_jobs([("held", None)] * HELD + [("quick", None)] * QUICK)
        await far.wait_for(lambda far: len(far.said("ran")) == QUICK)
        await far.wait_for(lambda far: len(far.said("began")) == HELD)
        assert await far.stop() < GRACE + PATIENT_FLUSH + MARGIN
        assert [line for line in far.lines if line[0] == "incomplete"] == []
    assert Counter(line[1] for line in far.lines if line[0] == "ran").most_common(1)[0][1] == 1
    assert not await locks(near)
    attempts = await near.fetch("select attempts from graphile_worker._private_jobs")
    assert [row["attempts"] for row in attempts] == [0] * HELD


@pytest.mark.parametrize(
    ("lease", "cut"), [(6.0, 0.0), pytest.param(12.0, 20.0, marks=pytest.mark.exhaustive)]
)
async def test_a_worker_beyond_a_cut_is_fenced_before_another_begins_its_jobs(
    lab: Lab, url: str, near: Database, lease: float, cut: float
) -> None:
    client = Client(near)
    async with lab.worker(url, lease, FLUSH, far=True) as far:
        held = {str(job.id) for job in await client.add_raw_jobs([("held", None)] * SLOTS)}
        await far.wait_for(lambda far: far.said("began").keys() == held)
        async with lab.worker(url, lease, far=False) as other:
            lab.set_wire("down")
            began = trio.current_time()
            await other.wait_for(lambda other: other.said("began").keys() == held)
            await trio.sleep_until(began + cut)
            lab.set_wire("up")
            new = str((await client.add_raw_job("quick")).id)  # the other has no slot for it
            await far.wait_for(lambda far: new in far.said("ran"))
            check_no_job_ran_beside_itself(far, other)
            assert await far.stop() < GRACE + FLUSH + MARGIN
            await other.stop()
    assert not await locks(near)


async def test_a_stop_beyond_a_cut_is_bounded_and_names_the_jobs(lab: Lab, url: str, near: Database) -> None:
    async with lab.worker(url, 6.0, FLUSH, far=True) as far:
        jobs = await Client(near).add_raw_jobs([("held", None)] * HELD)
        await far.wait_for(lambda far: len(far.said("began")) == HELD)
        lab.set_wire("down")
        assert await far.stop() < GRACE + FLUSH + MARGIN
        [incomplete] = [line for line in far.lines if line[0] == "incomplete"]
    assert set(incomplete[1:-1]) == {str(job.id) for job in jobs}
    async with lab.worker(url, 6.0, far=False) as other:
        await other.wait_for(lambda other: len(other.said("began")) == HELD)
        check_no_job_ran_beside_itself(far, other)
        await other.stop()
    assert not await locks(near)
