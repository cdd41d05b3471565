"""What can be seen of a storm while it lasts: marks as they come, and what those have locked who are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import attrs
import trio

from tests.storm.adapters import Contender
from tests.storm.fleet import Member
from tests.storm.marker import read_marks
from tests.storm.referee import FINISHED
from trio_graphile import Database, DatabaseError

_LOOK = 0.2
"""How often marks are read, in seconds."""
_CONFIRMED_AFTER = 0.5
"""How much later a lock is looked for again: the server may still be busy with a statement of a process that
ended meanwhile."""


@attrs.define(eq=False)
class Watch:
    """Reads what handlers and the queue's tables say."""

    contender: Contender
    _observer: Database
    _referee: Database
    finished: set[int] = attrs.field(factory=set)
    left_locked: set[tuple[str, str]] = attrs.field(factory=set)
    """Workers that had ended, and what they had locked nevertheless."""
    _last_starters: dict[int, str] = attrs.field(factory=dict)
    _seen: int = 0
    _changed_at: float = attrs.field(factory=trio.current_time)

    async def keep_reading(self) -> None:
        """Read marks as they come, until cancelled."""
        while True:
            await self.read()
            await trio.sleep(_LOOK)

    async def read(self) -> None:
        """Read what is new. A mark may be missed whose number is lower than one that came before."""
        for mark in await read_marks(self._referee, self._seen):
            self._seen, self._changed_at = mark.id, trio.current_time()
            if mark.what == FINISHED:
                self.finished.add(mark.token)
            elif mark.what == "started":
                self._last_starters[mark.token] = mark.worker

    async def wait_begun(self) -> None:
        """Wait until there is load: a handler has started."""
        while not self._last_starters:  # noqa: ASYNC110  # a table tells nobody when it changes
            await trio.sleep(_LOOK)

    async def wait_finished(self, tokens: Collection[int], patience: float) -> None:
        """Wait until all these jobs have finished, or nothing has happened for too long."""
        self._changed_at = trio.current_time()
        while set(tokens) - self.finished and trio.current_time() < self._changed_at + patience:
            await trio.sleep(_LOOK)
            if trio.current_time() > self._changed_at + 2.0:
                await self._read_missed(tokens)

    async def _read_missed(self, tokens: Collection[int]) -> None:
        for mark in await read_marks(self._referee):
            if mark.what == FINISHED and mark.token in tokens:
                self.finished.add(mark.token)

    async def look_for_locks(self, member: Member) -> None:
        """See whether a worker that has ended left anything locked."""
        found = await self._locked_by(member)
        if found:
            await trio.sleep(_CONFIRMED_AFTER)
            await self.read()
            self.left_locked.update((member.name, thing) for thing in found & await self._locked_by(member))

    async def look_for_locks_of_all(self, members: Iterable[Member]) -> None:
        """The same, when all have ended: whoever it is that has it."""
        await self.read()
        names = {member.holder: member.name for member in members}
        for row in await self._running():
            holder = row["holder"] or self._last_starters.get(row["token"], "?")
            self.left_locked.add((names.get(holder, holder), f"job {row['token']}"))
        for holder in await self._holders():
            self.left_locked.add((names.get(holder, holder), "a lock"))

    async def _locked_by(self, member: Member) -> set[str]:
        jobs = {
            f"job {row['token']}"
            for row in await self._running()
            if row["holder"] == member.holder
            or (row["holder"] is None and self._last_starters.get(row["token"]) == member.name)
        }
        return jobs | {"a lock" for holder in await self._holders() if holder == member.holder}

    async def _running(self) -> list[Any]:
        query = f"select token, holder from ({self.contender.states}) as jobs where state = 'running'"
        return await self._ask(query)

    async def _holders(self) -> list[str]:
        if self.contender.locks is None:
            return []
        return [row["holder"] for row in await self._ask(self.contender.locks)]

    async def _ask(self, query: str) -> list[Any]:
        """Ask until there is an answer: the server may be away for a moment."""
        while True:
            try:
                return list(await self._observer.fetch(query))
            except DatabaseError as error:
                if not error.transient:
                    raise
            await trio.sleep(_LOOK)
