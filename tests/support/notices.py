"""What the library logs, to be waited for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import trio

from tests.support.waiting import PATIENCE, wait_for_ring
from trio_graphile._model.bell import Bell


class Notices(logging.Handler):
    """What the library logs, from any thread."""

    def __init__(self, level: int, patience: float) -> None:
        super().__init__(level)
        self._patience = patience
        self._token = trio.lowlevel.current_trio_token()
        self._texts: list[str] = []
        self._changed = Bell()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(trio.RunFinishedError):  # it may come from another thread
            self._token.run_sync_soon(partial(self._note, record.getMessage()))

    def _note(self, text: str) -> None:
        self._texts.append(text)
        self._changed.ring()

    async def wait_for(self, text: str) -> None:
        """Wait until this was logged, be it before."""
        await self._wait_for_each([text], since=0)

    async def wait_for_new(self, *texts: str) -> None:
        """Wait until each of these was logged from now on."""
        await self._wait_for_each(texts, since=len(self._texts))

    async def _wait_for_each(self, texts: Iterable[str], *, since: int) -> None:
        await wait_for_ring(
            self._changed,
            lambda: all(any(text in logged for logged in self._texts[since:]) for text in texts),
            self._patience,
        )


@contextmanager
def noticing(level: int = logging.INFO, patience: float = PATIENCE) -> Iterator[Notices]:
    """Hear what is logged from now on; whoever waits for some of it gives up after so many seconds."""
    notices, logger = Notices(level, patience), logging.getLogger("trio_graphile")
    logger.addHandler(notices)
    try:
        yield notices
    finally:
        logger.removeHandler(notices)
