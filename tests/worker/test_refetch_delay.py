"""A refetch delay: observers are told of its end when that comes, whatever is done then."""

from __future__ import annotations

import attrs
import trio

from tests.hooks.recorder import Recorder
from tests.support.intake import ME, Intake
from tests.support.workers import NEVER
from trio_graphile import Job, LocalQueueOptions, ObserverOptions, RefetchDelayOptions
from trio_graphile._interceptors.chains import Chains
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.refetch_delay import RefetchDelay
from trio_graphile.hooks import RefetchDelayAborted
from trio_graphile.hooks._registry import hooks_of


async def no_jobs(_limit: int) -> list[Job]:
    await trio.lowlevel.checkpoint()
    return []


async def test_a_delay_that_is_aborted_is_told_although_no_claim_follows() -> None:
    """The worker may end before."""
    recorder = Recorder()
    emitter = Emitter(worker_id=ME, chains=Chains.of(hooks_of([recorder])), options=ObserverOptions())
    options = RefetchDelayOptions(duration=NEVER, max_abort_threshold=1)
    delay = RefetchDelay(LocalQueueOptions(size=20, refetch_delay=options), emitter)
    announcements = attrs.evolve(Intake(no_jobs).announcements, delay=delay)

    async def announce() -> None:
        await trio.lowlevel.checkpoint()
        delay.begin(0, trio.current_time())
        announcements.add(3)
        announcements.add(2)

    await emitter.run_beside(announce, limit=10)
    assert recorder.of(RefetchDelayAborted) == [RefetchDelayAborted(worker_id=ME, count=3, abort_threshold=1)]
