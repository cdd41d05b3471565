"""Maintenance: what a worker does for the whole queue, on sessions of its own."""

from __future__ import annotations

import attrs
import trio

from trio_graphile._database import samples, stale_locks
from trio_graphile._database.database import Database
from trio_graphile._interceptors.chains import Chains
from trio_graphile._interceptors.recoveries import Sweep, sweep
from trio_graphile._model.options import RecoveryOptions
from trio_graphile._model.recovery import ResetReport, SweepReport
from trio_graphile._worker.brief_session import brief_session
from trio_graphile._worker.clocks import ServerClock

_SAMPLE_TIMEOUT = 10.0
"""How long a sample may take, in seconds: for charts nobody need wait who has dead workers to look for."""


@attrs.define(eq=False, kw_only=True)
class Maintenance:
    """Each of its methods raises `DatabaseError`, and is done once: the sweeper does them again and again."""

    _database: Database
    _options: RecoveryOptions
    _worker_id: str
    _chains: Chains
    _server_clock: ServerClock
    _cancel_timeout: float
    """How long a statement may take to end after a cancellation, in seconds."""

    async def sweep(self) -> Sweep:
        """Give back the jobs of workers that died; of none while the server's clock says nothing."""
        async with brief_session(self._database, "recovery", self._cancel_timeout) as connection:
            if not await self._server_clock.is_steady(connection):
                return Sweep(SweepReport())
            return await sweep(connection, self._options, chains=self._chains, worker_id=self._worker_id)

    async def release_old_locks(self) -> ResetReport:
        """Release what has been locked for hours, whoever locked it."""
        async with brief_session(self._database, "recovery", self._cancel_timeout) as connection:
            if not await self._server_clock.is_steady(connection):
                return ResetReport()
            return await stale_locks.reset_stale_locks(connection)

    async def take_sample(self) -> None:
        """Write down what the queue is like, for charts; not if it takes long."""
        with trio.move_on_after(_SAMPLE_TIMEOUT):
            async with brief_session(self._database, "samples", self._cancel_timeout) as connection:
                await samples.take_sample(connection)
