"""A bell: wakes whoever waits for it, however many they are."""

from __future__ import annotations

import attrs
import trio


@attrs.define(eq=False)
class Bell:
    """Rings for all who wait at that moment; whoever comes later waits for the next ring.

    It remembers no ring. So look whether you have to wait, wait, and look again, with no checkpoint between
    the look and the wait.
    """

    _next_ring: trio.Event | None = None
    """None while nobody waits: then a ring costs next to nothing."""

    def ring(self) -> None:
        """Wake all who wait. Neither blocks nor fails, and is no checkpoint."""
        if self._next_ring is not None:
            self._next_ring.set()
            self._next_ring = None

    async def wait(self) -> None:
        """Wait for the next ring."""
        if self._next_ring is None:
            self._next_ring = trio.Event()
        await self._next_ring.wait()
