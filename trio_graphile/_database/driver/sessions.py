"""What we do with private parts of asyncpg's sessions; what these are is said in `shortcuts`."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from trio_graphile._database.driver.libraries import asyncpg
from trio_graphile._database.driver.shortcuts import (
    CANCEL_REQUESTS,
    NOTIFICATIONS,
    PREPARATION,
    REFUSED_BEGINS,
    SOCKETS,
    is_on,
)


class _PromptConnection(asyncpg.Connection):  # type: ignore[misc]  # untyped
    """A session that calls its listeners as soon as it hears something, not in the loop's next turn."""

    __slots__ = ()

    def _process_notification(self, pid: int, channel: str, payload: str) -> None:
        for listener in tuple(self._listeners.get(channel, ())):
            listener.cb(self, pid, channel, payload)


def session_class() -> Any:
    """Return the class of our sessions, for `asyncpg.connect`."""
    return _PromptConnection if is_on(NOTIFICATIONS) else asyncpg.Connection


def cancel_request(raw: Any, sent: Any) -> Coroutine[Any, Any, None] | None:
    """Return what asks the server to end its statement, and sets a future when it has; None if nothing can.

    To cancel asyncpg's call would send the same, but throw away the answer of a statement that was faster.
    """
    return raw._cancel(sent) if is_on(CANCEL_REQUESTS) else None


def can_prepare_ahead() -> bool:
    """Whether a statement can be parsed before it runs."""
    return is_on(PREPARATION)


async def prepare_ahead(raw: Any, text: str) -> None:
    """Have the server parse a statement, and asyncpg remember it."""
    await raw._get_statement(text, None)


def forget_transaction(raw: Any) -> None:
    """Have asyncpg forget the transaction that it believes to be open, after its BEGIN was refused."""
    if is_on(REFUSED_BEGINS):
        raw._top_xact = None
    else:
        raw.terminate()


def socket_of(raw: Any) -> Any | None:
    """Return the socket of a session, if we can see it."""
    return raw._transport.get_extra_info("socket") if is_on(SOCKETS) else None
