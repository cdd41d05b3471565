"""The listener: hears that jobs were added, and says so. Polling covers for it while it is deaf."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._exceptions import DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.json import decode

logger = logging.getLogger("trio_graphile.worker")

JOBS_INSERT = "jobs:insert"
_LONGEST_PAUSE = 60.0


@attrs.define(eq=False)
class Listener:
    """Holds the LISTEN session; opens it again, for ever, when it is lost."""

    _open: Callable[[], Awaitable[Connection]]
    _on_jobs: Callable[[int], None]
    """Called with how many jobs were announced."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Started once it listens, or has failed to for a first time."""
        delays = backoff_delays(cap=_LONGEST_PAUSE)
        while True:
            try:
                connection = await self._open()
                try:
                    await connection.listen(JOBS_INSERT, self._hear)
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    self._on_jobs(1)  # whatever was added while nobody listened
                    delays = backoff_delays(cap=_LONGEST_PAUSE)
                    await connection.wait_closed()
                finally:
                    await connection.aclose()
                reason: object = "the session was closed"
            except DatabaseError as error:
                if not error.transient:
                    raise
                reason = error
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            delay = next(delays)
            logger.warning("not listening, polling meanwhile; next try in %.1f s: %s", delay, reason)
            await trio.sleep(delay)

    def _hear(self, payload: str) -> None:
        count = announced_jobs(payload)
        if count > 0:
            self._on_jobs(count)


def announced_jobs(payload: str) -> int:
    """Return how many jobs a notification announces: 1 if it does not say, negative for removals."""
    try:
        count = decode(payload)["count"]
    except (ValueError, TypeError, KeyError):
        return 1
    return count if isinstance(count, int) else 1
