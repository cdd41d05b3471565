"""Caches values that cost too much to be read for each page: they are read once, and shown for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
import trio

T = TypeVar("T")


@attrs.define
class Recent(Generic[T]):
    """The last value, while it is young enough. Concurrent callers wait for one read."""

    _read: Callable[[], Awaitable[T]]
    _age: float
    """How many seconds a value is shown."""
    _answer: T | None = None
    _read_at: float = 0.0
    _turn: trio.Lock = attrs.field(factory=trio.Lock)

    @property
    def young(self) -> T | None:
        """The value, if there is one that is young enough."""
        return None if trio.current_time() - self._read_at > self._age else self._answer

    async def get(self) -> T:
        """Return the value, reading it if it is too old. Raises what reading it raises."""
        async with self._turn:
            answer = self.young
            if answer is None:
                answer = self._answer = await self._read()
                self._read_at = trio.current_time()
            return answer
