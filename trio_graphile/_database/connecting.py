"""How a session is opened. An attempt is never interrupted: who waits may leave, and it ends by itself."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import outcome
import trio

from trio_graphile._database.access import Access, Host, PasswordSource
from trio_graphile._database.bridge import LAST_RESORT, Bridge
from trio_graphile._database.connection import DRIVER_ERRORS, Connection, SessionSettings
from trio_graphile._database.driver.libraries import asyncpg
from trio_graphile._database.driver.sessions import session_class, socket_of
from trio_graphile._database.errors import describe
from trio_graphile._database.passfile import NO_FILE
from trio_graphile._model.json import decode, encode


@attrs.define(eq=False)
class Attempt:
    """A session that is being opened, for one Trio task to wait for.

    asyncpg, cancelled in the middle of it, leaves half a TLS connection behind. So it goes on; the session
    may serve whoever waits next, or is closed as soon as it is there.
    """

    _bridge: Bridge
    _access: Access
    _settings: SessionSettings
    cancel_timeout: float
    _task: Any = attrs.field(init=False)
    _ended: trio.Event = attrs.field(init=False, factory=trio.Event)
    _ends_at: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        opening = _Opening(self._bridge, self._access, self._settings)
        self._ends_at = trio.current_time() + opening.longest + LAST_RESORT
        self._task = self._bridge.start(opening.captured())
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
        result = self._task.result()
        if isinstance(result, outcome.Value):
            return Connection(result.value, self._bridge, self._settings, self.cancel_timeout)
        error = result.error
        if isinstance(error, (*DRIVER_ERRORS, ValueError)):
            raise self._access.denied(error, is_misfit=isinstance(error, asyncpg.InterfaceError)) from error
        raise error

    @property
    def is_in_vain(self) -> bool:
        """Whether it has failed, or the session that it has opened is lost by now."""
        if not self._task.done():
            return False
        session = _session_of(self._task)
        return session is None or bool(session.is_closed())

    def abandon(self) -> None:
        """Have the session closed when it is there: nobody will wait for it any more."""
        self._task.add_done_callback(_close)


def _close(task: Any) -> None:
    if (session := _session_of(task)) is not None:
        session.terminate()


def _session_of(task: Any) -> Any | None:
    """Return the session that a task has opened; None if it has failed."""
    if task.cancelled() or task.exception() is not None:
        return None
    result = task.result()
    return result.value if isinstance(result, outcome.Value) else None


async def connect(
    bridge: Bridge, access: Access, settings: SessionSettings, cancel_timeout: float
) -> Connection:
    """Open one session. Raises as `Attempt.wait`; cancelled, it leaves at once."""
    await trio.lowlevel.checkpoint_if_cancelled()
    attempt = Attempt(bridge, access, settings, cancel_timeout)
    try:
        return await attempt.wait()
    except BaseException:
        attempt.abandon()
        raise


_NEXT_HOST = (OSError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError)
"""What one host says, and another may not."""


@attrs.frozen
class _Opening:
    """How one session is opened, in asyncio: by the first host that lets us in."""

    _bridge: Bridge
    _access: Access
    _settings: SessionSettings

    @property
    def longest(self) -> float:
        """How long it may take, in seconds."""
        return self._timeout * len(self._access.hosts()) * len(self._roles)

    @property
    def _timeout(self) -> float:
        return self._access.address.connect_timeout or self._settings.connect_timeout

    @property
    def _roles(self) -> Sequence[str | None]:
        """The roles that a host may have, the best first; None for what the driver finds in the address."""
        address = self._access.address
        return ("standby", "any") if address.hosts and address.role == "prefer-standby" else (None,)

    async def captured(self) -> outcome.Outcome[Any]:
        """Run, and return what came of it.

        If the loop ends meanwhile, nobody waits for that any more, and what was raised would fail the loop.
        """
        try:
            return outcome.Value(await self.run())
        except Exception as error:  # noqa: BLE001  # `Attempt.wait` raises it
            return outcome.Error(error)

    async def run(self) -> Any:
        """Return the session of asyncpg's. Raises what it raises; of several hosts, what each says."""
        said: list[str] = []
        last: Exception | None = None
        hosts = [(host, role) for role in self._roles for host in self._access.hosts()]
        for host, role in hosts:
            try:
                raw = await self._connect(host, role)
            except _NEXT_HOST as error:
                if len(hosts) == 1:
                    raise
                last = error
                said.append(f"{host[0]}:{host[1]}: {describe(error)}" if host else describe(error))
            else:
                self._access.granted(host)
                return raw
        raise ConnectionError("; ".join(dict.fromkeys(said))) from last

    async def _connect(self, host: Host, role: str | None) -> Any:
        arguments = {**self._access.address.arguments, **self._access.connect_arguments}
        settings = {**arguments.pop("server_settings", {})}
        if self._settings.prepared_statements:
            settings = {**self._settings.settings, **settings}
        else:
            arguments["statement_cache_size"] = 0
        if host is not None:
            arguments["host"], arguments["port"] = host
        if self._access.address.passwords is not None:
            arguments["passfile"] = NO_FILE
        raw = await asyncpg.connect(
            self._access.address.url,
            timeout=self._timeout,
            connection_class=session_class(),
            target_session_attrs=role,
            password=self._password_for(host),
            server_settings=settings or None,
            **arguments,
        )
        try:
            _set_socket_options(raw, self._access.address.socket_options)
            if self._settings.json_values:
                await _exchange_json_as_values(raw)
        except BaseException:
            raw.terminate()
            raise
        return raw

    def _password_for(self, host: Host) -> str | Callable[[], Awaitable[str]] | None:
        return self._access.stored_password(host) if self._access.password is None else self._ask_password

    async def _ask_password(self) -> str:
        """Ask the user's function, in Trio: it may be an async one."""
        return await self._bridge.loop.trio_as_future(_password_of, self._access.password)  # type: ignore[no-any-return]  # trio-asyncio is untyped


async def _password_of(source: PasswordSource) -> str:
    try:
        password = source()
        if inspect.isawaitable(password):
            password = await password
    except (Exception, SystemExit) as error:
        raise ConnectionError(f"there is no password: {type(error).__name__}: {error}") from error
    if not isinstance(password, str):
        raise ConnectionError(f"a password is needed, not {type(password).__name__}")
    return password


_SOCKET_OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}


def _set_socket_options(raw: Any, options: Mapping[str, int]) -> None:
    """Set what was asked for and this system has."""
    connected = socket_of(raw)
    if connected is None or connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if (number := getattr(socket, _SOCKET_OPTIONS[name], None)) is not None:
            connected.setsockopt(socket.IPPROTO_TCP, number, value)


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
