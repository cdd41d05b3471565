"""How a session is opened. An attempt is never interrupted: who waits may leave, and it ends by itself."""

from __future__ import annotations

from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg has no py.typed
import attrs
import trio

from trio_graphile._database.bridge import LAST_RESORT, Bridge
from trio_graphile._database.connection import DRIVER_ERRORS, Connection, SessionSettings
from trio_graphile._database.errors import Access
from trio_graphile._model.json import decode, encode


class _PromptConnection(asyncpg.Connection):  # type: ignore[misc]  # untyped
    """A session that calls its listeners as soon as it hears something, not in the loop's next turn."""

    __slots__ = ()

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            listener.cb(self, pid, channel, payload)


@attrs.define(eq=False)
class Attempt:
    """A session that is being opened, for one Trio task to wait for.

    asyncpg, cancelled in the middle of it, leaves half a TLS connection behind. So it goes on; the session
    may serve whoever waits next, or is closed as soon as it is there.
    """

    _bridge: Bridge
    _access: Access
    _settings: SessionSettings
    cancel_patience: float
    _task: Any = attrs.field(init=False)
    _ended: trio.Event = attrs.field(init=False, factory=trio.Event)
    _ends_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ends_at = trio.current_time() + self._settings.connect_timeout + LAST_RESORT
        self._task = self._bridge.start(_open_session(self._access.url, self._settings))
        self._task.add_done_callback(lambda _: self._ended.set())

    async def wait(self) -> Connection:
        """Return the session. Raises `DatabaseUnavailable`, `DatabaseRefused` or `DatabaseUrlInvalid`.

        Cancelled, it can be called again.
        """
        with trio.move_on_at(self._ends_at):
            await self._ended.wait()
        if not self._task.done() or self._task.cancelled():
            self.abandon()
            raise self._access.denied(TimeoutError(), is_misfit=False)
        error = self._task.exception()
        if error is None:
            self._access.granted()
            return Connection(self._task.result(), self._bridge, self._settings, self.cancel_patience)
        if isinstance(error, (*DRIVER_ERRORS, ValueError)):
            raise self._access.denied(error, is_misfit=isinstance(error, asyncpg.InterfaceError)) from error
        raise error

    @property
    def is_in_vain(self) -> bool:
        """Whether it has failed, or the session that it has opened is lost by now."""
        task = self._task
        return bool(
            task.done() and (task.cancelled() or task.exception() is not None or task.result().is_closed())
        )

    def abandon(self) -> None:
        """Have the session closed when it is there: nobody will wait for it any more."""
        self._task.add_done_callback(_close)


def _close(task: Any) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().terminate()


async def connect(
    bridge: Bridge, access: Access, settings: SessionSettings, cancel_patience: float
) -> Connection:
    """Open one session. Raises as `Attempt.wait`; cancelled, it leaves at once."""
    await trio.lowlevel.checkpoint_if_cancelled()
    attempt = Attempt(bridge, access, settings, cancel_patience)
    try:
        return await attempt.wait()
    except BaseException:
        attempt.abandon()
        raise


async def _open_session(url: str | None, settings: SessionSettings) -> Any:
    raw = await asyncpg.connect(
        url,
        timeout=settings.connect_timeout,
        connection_class=_PromptConnection,
        **_connect_arguments(settings),
    )
    try:
        if settings.json_values:
            await _exchange_json_as_values(raw)
    except BaseException:
        raw.terminate()
        raise
    return raw


async def _exchange_json_as_values(raw: Any) -> None:
    # Binary, since asyncpg cannot read a composite type (a row of the jobs, say) with a text codec in it.
    for name, version in (("json", b""), ("jsonb", b"\1")):
        await raw.set_type_codec(
            name,
            schema="pg_catalog",
            format="binary",
            encoder=lambda value, version=version: version + encode(value).encode(),
            decoder=lambda binary, version=version: decode(str(binary[len(version) :], "utf-8")),
        )


def _connect_arguments(settings: SessionSettings) -> dict[str, object]:
    if not settings.prepared_statements:
        return {"statement_cache_size": 0}
    return {"server_settings": dict(settings.settings)}
