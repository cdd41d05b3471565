"""The listener: hears that jobs were added, and says so. Polling covers for it while it is deaf."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._database.schema import is_superseded
from trio_graphile._exceptions import ConnectionLost, DatabaseError
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.json import decode
from trio_graphile._model.statistics import ListenState
from trio_graphile._worker.bell import Bell
from trio_graphile.hooks._event import Teller
from trio_graphile.hooks._worker_events import ListenConnecting, ListenLost, ListenRestored

logger = logging.getLogger("trio_graphile.worker")

JOBS_INSERT = "jobs:insert"
WORKER_MIGRATE = "worker:migrate"
_LONGEST_PAUSE = 10.0
_ECHO_INTERVAL = 15.0
_ECHO_PATIENCE = 5.0

ECHO = "select pg_notify($1::text, '')"  # $1 a channel that nobody else listens to


@attrs.define(eq=False, kw_only=True)
class Listener:
    """Holds the LISTEN session; opens it again, for ever, when it is lost or has gone deaf."""

    _open: Callable[[], Awaitable[Connection]]
    _on_jobs: Callable[[int], None]
    """Called with how many jobs were announced."""
    _on_breaking_migration: Callable[[], None]
    """Called when somebody installs a revision under which we cannot go on."""
    _on_cancellation: Callable[[], None]
    """Called when somebody may want one of our jobs to be cancelled."""
    _cancel_channel: str
    _echo_channel: str
    _echo_interval: float = _ECHO_INTERVAL
    _echo_patience: float = _ECHO_PATIENCE
    _teller: Teller | None = None
    """Whom to tell of the session, if anybody wants to know."""
    state: ListenState = ListenState.CONNECTING
    """Whether it listens at this moment."""
    _has_heard_echo: bool = False
    _heard_echo: Bell = attrs.field(factory=Bell)

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled. Started once it listens, or has failed to for a first time."""
        delays, attempt = backoff_delays(cap=_LONGEST_PAUSE), 0
        while True:
            attempt += 1
            self._tell_connecting(attempt)
            try:
                connection = await self._open()
                try:
                    await self._subscribe(connection)
                    if await is_superseded(connection):  # since it last listened
                        self._on_breaking_migration()
                    self._note_restored()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    self._on_jobs(1)  # whatever was added while nobody listened
                    self._on_cancellation()  # as above
                    delays, attempt = backoff_delays(cap=_LONGEST_PAUSE), 0
                    await self._wait_deaf(connection)
                finally:
                    await connection.aclose()
            except DatabaseError as error:
                if not error.transient:
                    raise
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                delay = next(delays)
                self._note_lost(error, delay)
                await trio.sleep(delay)

    def _tell_connecting(self, attempt: int) -> None:
        if self._teller is not None:
            self._teller.tell(ListenConnecting(worker_id=self._teller.worker_id, attempt=attempt))

    def _note_restored(self) -> None:
        self.state = ListenState.LISTENING
        if self._teller is not None:
            self._teller.tell(ListenRestored(worker_id=self._teller.worker_id))

    def _note_lost(self, error: DatabaseError, delay: float) -> None:
        self.state = ListenState.LOST
        logger.warning("not listening, polling meanwhile; next try in %.1f s: %s", delay, error)
        if self._teller is not None:
            self._teller.tell(ListenLost(worker_id=self._teller.worker_id, error=str(error), retry_in=delay))

    async def _subscribe(self, connection: Connection) -> None:
        await connection.listen(JOBS_INSERT, self._hear_jobs)
        await connection.listen(WORKER_MIGRATE, self._hear_migration)
        await connection.listen(self._cancel_channel, self._hear_cancellation)
        await connection.listen(self._echo_channel, self._hear_echo)

    async def _wait_deaf(self, connection: Connection) -> None:
        """Wait until the session is lost, or does not bring back what we send through it.

        A connection that was cut without a packet looks alive for a quarter of an hour otherwise.
        """
        while True:
            with trio.move_on_after(self._echo_interval):
                await connection.wait_closed()
                raise ConnectionLost("the session was closed")
            self._has_heard_echo = False
            with trio.move_on_after(self._echo_patience):
                await connection.execute(ECHO, self._echo_channel)
                while not self._has_heard_echo:
                    await self._heard_echo.wait()
            if not self._has_heard_echo:
                connection.terminate()
                raise ConnectionLost("the session has gone deaf")

    def _hear_jobs(self, payload: str) -> None:
        count = announced_jobs(payload)
        if count > 0:
            self._on_jobs(count)

    def _hear_migration(self, payload: str) -> None:
        if is_breaking(payload):
            self._on_breaking_migration()

    def _hear_cancellation(self, _payload: str) -> None:
        self._on_cancellation()

    def _hear_echo(self, _payload: str) -> None:
        self._has_heard_echo = True
        self._heard_echo.ring()


def announced_jobs(payload: str) -> int:
    """Return how many jobs a notification announces: 1 if it does not say, negative for removals."""
    count = _field(payload, "count")
    return count if type(count) is int else 1


def is_breaking(payload: str) -> bool:
    """Return whether a notification announces a revision that older workers cannot live with."""
    return _field(payload, "breaking") is True


def _field(payload: str, name: str) -> Any:
    try:
        return decode(payload)[name]
    except (ValueError, TypeError, KeyError):
        return None
