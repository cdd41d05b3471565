"""How a test hears of handlers that run in processes, holds them, and learns that they are gone."""

from __future__ import annotations

import contextlib
import json
import math

import attrs
import trio


@attrs.define(eq=False)
class Caller:
    """A process that called, and is on the line until its handler ends."""

    process: int
    job_id: int | None
    _line: trio.SocketStream

    async def answer(self) -> None:
        await self._line.send_all(b".")

    async def wait_gone(self) -> None:
        with trio.fail_after(20), contextlib.suppress(trio.BrokenResourceError):
            assert await self._line.receive_some(1) == b""


@attrs.define(eq=False)
class Telephone:
    """Where handlers in processes call."""

    port: int
    _calls: trio.MemoryReceiveChannel[Caller]

    async def next_call(self) -> Caller:
        with trio.fail_after(30):
            return await self._calls.receive()

    async def answer(self, count: int) -> list[Caller]:
        """Answer so many calls, one after the other."""
        callers = []
        for _ in range(count):
            callers.append(await self.next_call())
            await callers[-1].answer()
        return callers


async def open_telephone(nursery: trio.Nursery) -> Telephone:
    """Take calls in the nursery until it is cancelled."""
    send, receive = trio.open_memory_channel[Caller](math.inf)

    async def take_call(line: trio.SocketStream) -> None:
        process, job_id = json.loads(await line.receive_some(1000))
        await send.send(Caller(process, job_id, line))
        await trio.sleep_forever()  # or the line would be cut

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, take_call, [listener])
    return Telephone(listener.socket.getsockname()[1], receive)
