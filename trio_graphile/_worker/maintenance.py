"""Maintenance: what a worker does for the whole queue, each time in a session of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import attrs
import trio

from trio_graphile._database import samples, stale_locks, sweeps, table_size, unknown_locks, worker_registry
from trio_graphile._database.brief_transaction import one_core_transaction
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.presence_locks import Gone
from trio_graphile._interceptors.chains import Chains
from trio_graphile._interceptors.recoveries import Sweep, sweep
from trio_graphile._model.options import RecoveryOptions
from trio_graphile._model.recovery import ResetReport, SweepReport
from trio_graphile._worker.brief_session import brief_session
from trio_graphile._worker.clocks import ServerClock
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.looks import Looks

_SAMPLE_TIMEOUT = 10.0
"""How long a sample may take, in seconds. It is for charts only, and must not hold up the next sweep."""


@attrs.define(eq=False, kw_only=True)
class Maintenance:
    """Does one piece of maintenance per call; the sweeper calls it now and then. Raises `DatabaseError`."""

    _database: Database
    _options: RecoveryOptions
    _worker_id: str
    _ledger: Ledger
    _chains: Chains
    _server_clock: ServerClock
    _cancel_timeout: float
    """How long a statement may take to end after a cancellation, in seconds."""
    _looks_for_orphans: Looks = attrs.field(factory=Looks)
    _looks_for_old_locks: Looks = attrs.field(factory=Looks)
    _looks_for_unknown: Looks = attrs.field(factory=Looks)

    async def sweep(self) -> Sweep:
        """Give back the jobs of workers that died. Does nothing while the server's clock is unsteady.

        Leaves out workers that are not registered while it is too soon for another look at all locks.
        """
        async with brief_session(self._database, "recovery", self._cancel_timeout) as connection:
            if not await self._server_clock.is_steady(connection):
                return Sweep(SweepReport())
            with await _look_if_due(self._looks_for_orphans, connection) as is_due:
                if is_due and await sweeps.has_orphans(connection, self._options):
                    return await self._sweep(connection, orphans=True)  # which reads the table again
            return await self._sweep(connection, orphans=False)

    async def _sweep(self, connection: Connection, *, orphans: bool) -> Sweep:
        return await sweep(
            connection, self._options, chains=self._chains, worker_id=self._worker_id, orphans=orphans
        )

    async def take_jobs(self, gone: Sequence[Gone]) -> Sweep:
        """Give back the jobs of workers that are gone, as far as they still are."""
        async with brief_session(self._database, "recovery", self._cancel_timeout, direct=True) as connection:
            return await sweep(
                connection, self._options, chains=self._chains, worker_id=self._worker_id, gone=gone
            )

    async def release_old_locks(self) -> ResetReport | None:
        """Release all locks that are hours old. Does nothing while the server's clock is unsteady.

        Returns None while it is too soon for another look at all locks.
        """
        async with brief_session(self._database, "recovery", self._cancel_timeout) as connection:
            if not await self._server_clock.is_steady(connection):
                return ResetReport()
            with await _look_if_due(self._looks_for_old_locks, connection) as is_due:
                return await stale_locks.reset_stale_locks(connection) if is_due else None

    async def return_unknown(self) -> None:
        """Give back what is locked by this worker though it does not know of it, whatever went wrong.

        Does nothing while it is too soon for another look at all locks. Claims go on while it looks.
        """
        async with brief_session(self._database, "recovery", self._cancel_timeout) as connection:
            ledger = self._ledger
            with await _look_if_due(self._looks_for_unknown, connection) as is_due:
                if not is_due:
                    return
                async with one_core_transaction(connection):
                    found = await unknown_locks.find_unknown(connection, self._worker_id, ledger.snapshot())
            if found:
                ledger.unknown_found()  # if this is ended from here on, the end of the worker looks again
                async with ledger.claiming:  # what a claim has brought meanwhile is in the ledger
                    held = ledger.snapshot()
                    unknown = await unknown_locks.still_unknown(connection, self._worker_id, held, found)
                    if unknown:
                        await unknown_locks.return_unknown(connection, self._worker_id, held, unknown)
                    else:
                        ledger.unknown_explained()

    async def take_sample(self) -> None:
        """Write down the numbers of the queue for charts; give up if that takes long."""
        with trio.move_on_after(_SAMPLE_TIMEOUT):
            async with brief_session(self._database, "samples", self._cancel_timeout) as connection:
                await samples.take_sample(connection)


async def _look_if_due(looks: Looks, connection: Connection) -> AbstractContextManager[bool]:
    workers = await worker_registry.count_workers(connection)
    return looks.look_if_due(workers, await table_size.size_jobs(connection))
