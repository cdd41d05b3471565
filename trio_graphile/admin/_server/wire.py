"""One connection: h11's events on a Trio stream. Each wait for the client has a limit."""

from __future__ import annotations

from email.utils import formatdate
from typing import TypeAlias

import h11
import trio

from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.refusals import (
    BODY_TOO_SLOW,
    HEAD_TOO_SLOW,
    TARGET_TOO_LONG,
    Refusal,
    body_too_large,
    malformed,
)

PIECE = 65_536
"""How many bytes are read or sent at once."""
_LINGER_TIMEOUT = 2.0
_CLOSE_TIMEOUT = 1.0

Header: TypeAlias = tuple[bytes, bytes]


class ClientGone(Exception):
    """The client has closed or broken its connection, or does not read what it is sent."""


class Wire:
    """Receives from and sends to one client.

    One task may receive at a time, and one may send.
    """

    def __init__(self, stream: trio.abc.Stream, limits: ServerLimits) -> None:
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_size)
        self._read_ahead = 0
        self._broken = False

    # --- reading ---

    async def read_head(self) -> h11.Request | Refusal | None:
        """Return the next request, or a refusal of it, or None if the client is gone."""
        try:
            if not self._buffered():
                with trio.fail_after(self._limits.idle_timeout):
                    await self._read_more()
        except (ClientGone, trio.TooSlowError):
            return None
        try:
            with trio.fail_after(self._limits.head_timeout):
                event = await self._next_event()
        except ClientGone:
            return None
        except trio.TooSlowError:
            return HEAD_TOO_SLOW
        except h11.RemoteProtocolError as error:
            refusal = malformed(error)
            # Only the beginning of a first line came: the address is too long.
            return TARGET_TOO_LONG if refusal.status == 431 and b"\n" not in self._buffered() else refusal
        return event if isinstance(event, h11.Request) else None

    async def read_body(self) -> bytes | Refusal | None:
        """Return the body of the request, or a refusal of it, or None if the client is gone."""
        try:
            with trio.fail_after(self._limits.body_timeout):
                return await self._read_whole_body()
        except ClientGone:
            return None
        except trio.TooSlowError:
            return BODY_TOO_SLOW
        except h11.RemoteProtocolError as error:
            return malformed(error)

    async def _read_whole_body(self) -> bytes | Refusal:
        if self._http.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > self._limits.body_size:
                return body_too_large(self._limits.body_size)
        return bytes(body)

    async def wait_until_gone(self) -> None:
        """Return when the client has closed its end.

        Its next requests, which it may send meanwhile, are kept; if it sends many bytes, this stops watching.
        """
        try:
            while self._read_ahead < PIECE:
                await self._read_more()
        except ClientGone:
            return
        await trio.sleep_forever()

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._read_more()
        return event

    async def _read_more(self) -> None:
        try:
            octets = await self._stream.receive_some(PIECE)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            self._broken = True
            raise ClientGone from error
        if not octets:
            raise ClientGone
        self._read_ahead += len(octets)
        self._http.receive_data(bytes(octets))

    def _buffered(self) -> bytes:
        return self._http.trailing_data[0]

    # --- sending ---

    async def send_head(self, status: int, headers: list[Header], *, close: bool) -> None:
        """Begin an answer. `close` announces that the connection ends with it.

        Raises `h11.LocalProtocolError`, having sent nothing, for headers that cannot be sent.
        """
        headers = [(name, value) for name, value in headers if name.lower() != b"server"]
        if not any(name.lower() == b"date" for name, _ in headers):
            headers.append((b"date", formatdate(usegmt=True).encode()))
        if close:
            headers.append((b"connection", b"close"))
        await self._send(h11.Response(status_code=status, headers=headers))

    async def send_body(self, octets: bytes) -> None:
        """Send a part of an answer in pieces; a client is slow if it does not accept one piece in time."""
        for start in range(0, len(octets), PIECE):
            await self._send(h11.Data(data=octets[start : start + PIECE]))

    async def send_end(self) -> None:
        """End an answer. Raises `h11.LocalProtocolError` if it is shorter than its head said."""
        await self._send(h11.EndOfMessage())

    async def refuse(self, refusal: Refusal, *, close: bool, with_body: bool = True) -> None:
        """Send a whole answer of our own."""
        await self.send_head(refusal.status, refusal.headers(), close=close)
        if with_body:
            await self.send_body(refusal.body())
        await self.send_end()

    async def _send(self, event: h11.Event) -> None:
        if self._broken:
            raise ClientGone
        octets = self._http.send(event)
        if not octets:
            return
        self._broken = True  # until all is sent, in case we are cancelled in between
        try:
            with trio.fail_after(self._limits.send_timeout):
                await self._stream.send_all(octets)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            raise ClientGone from error
        self._broken = False

    @property
    def answer_has_begun(self) -> bool:
        """Whether it is too late to replace the answer by another one."""
        return self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}

    @property
    def answer_is_complete(self) -> bool:
        """Whether the whole answer was sent, so that the connection may go on or end politely."""
        return not self._broken and self._http.our_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}

    # --- between requests and at the end ---

    def start_next_request(self) -> bool:
        """Prepare for another request; return False if the connection ends with this one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._read_ahead = 0
        return True

    async def linger(self) -> None:
        """Let the client read a refusal before the connection ends.

        Closing while the client still sends would reset the connection, and it would lose the refusal.
        """
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        with trio.move_on_after(_LINGER_TIMEOUT):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some(PIECE):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                return

    async def close(self) -> None:
        """End the connection politely, if the client still listens: TLS has a message for that."""
        if not self._broken:
            with trio.move_on_after(_CLOSE_TIMEOUT):
                await self._stream.aclose()
