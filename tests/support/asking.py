"""Pages over HTTP, as a plugin serves them, and what asks for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.support.waiting import PATIENCE
from trio_graphile.plugins.pages import Pages, serve_pages


@asynccontextmanager
async def serving(pages: Pages, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(serve_pages, listen, pages)
        nursery.cancel_scope.cancel()


async def send(address: str, request: bytes) -> bytes:
    """Send what need not be HTTP; return all that is answered."""
    host, _, port = address.rpartition(":")
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream(host.strip("[]"), int(port)) as stream:
            await stream.send_all(request)
            answer = b""
            async for chunk in stream:
                answer += chunk
    return answer


async def get(address: str, path: str) -> tuple[int, Any]:
    answer = await send(address, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return int(head.split()[1]), json.loads(body)
