"""The session of the lease: that of the lock that stands for the worker, or its own while that is away."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
import outcome
import trio

from trio_graphile._database.session import Session
from trio_graphile._database.statement import Statement
from trio_graphile._database.statements import Statements, Verb
from trio_graphile._worker.lock_keeper import LockKeeper, LockSession


@attrs.define(eq=False)
class LeaseSession(Statements):
    """Runs the statements of the lease, one at a time. Made in the lease's thread."""

    _own: Session
    _lock_keeper: LockKeeper | None
    _sender: trio.MemorySendChannel[Callable[[], Awaitable[None]]] = attrs.field(init=False)
    _receiver: trio.MemoryReceiveChannel[Callable[[], Awaitable[None]]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel(math.inf)

    async def run(self) -> None:
        """Run statements on the session of the lock, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for speak in self._receiver:
                nursery.start_soon(speak)

    @property
    def is_open(self) -> bool:
        """Whether the next statement needs no new session."""
        return self._own.is_open or (self._lock_keeper is not None and self._lock_keeper.may_lend)

    async def spare(self) -> None:
        """Close the session of its own if it is not needed."""
        if self._own.is_open and self._lock_keeper is not None and self._lock_keeper.may_lend:
            await self._own.aclose()

    def terminate(self) -> None:
        """Cut the session of its own off at once."""
        self._own.terminate()

    async def _run(self, verb: Verb, sql: str | Statement, arguments: tuple[object, ...]) -> Any:
        lent = None if self._lock_keeper is None else await self._lock_keeper.lend()
        if lent is None:
            return await self._own._run(verb, sql, arguments)  # noqa: SLF001  # it is of the same kind
        # Cancelled, we leave at once, and the statement goes on: to give it up would be to give up the lock.
        statement = partial(lent.connection._run, verb, sql, arguments)  # noqa: SLF001  # as above
        answers: list[outcome.Outcome[Any]] = []
        self._sender.send_nowait(partial(_speak, lent, statement, answers))
        await lent.answered.wait()
        return answers[0].unwrap()


async def _speak(
    lent: LockSession, statement: Callable[[], Awaitable[Any]], answers: list[outcome.Outcome[Any]]
) -> None:
    try:
        answers.append(outcome.Value(await statement()))
    except Exception as error:  # noqa: BLE001  # whoever waits for the answer raises it
        answers.append(outcome.Error(error))
    finally:
        lent.answered.set()
