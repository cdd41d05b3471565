"""The claimer: how jobs are claimed. It chooses the statement, by what it learned from the claims before.

Tasks that share their bounds are one source, and each source is claimed from by statements of its own, in
turn. Of a source it remembers where the jobs begin that can be claimed (`Floor`), and whether a plain claim
finds them (`Front`). A claim tries, in this order, and goes on to the next only if it brought too few:

1. a plain claim, or else the whole one, from where jobs are known to begin;
2. the whole claim, from anywhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter

import attrs
import trio

from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.memory import Floor, Front, Position
from trio_graphile._database.session import Session
from trio_graphile._database.unreadable import fail_unreadable, is_unreadable
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.bounds import Bound, FlagRules, Share, room_of, shares_of, used_of
from trio_graphile._model.jobs import Job

_priority = attrgetter("priority")


@attrs.define(eq=False)
class Source:
    """Tasks that are claimed together, and what was learned about where their jobs stand."""

    share: Share
    floor: Floor = attrs.field(factory=Floor)
    front: Front = attrs.field(factory=Front)


@attrs.define(eq=False)
class Claimer:
    """Claims for one worker, one claim at a time: whoever calls `claim` sees to that."""

    _session: Session
    _worker_id: str
    identifiers: tuple[str, ...] = attrs.field(init=False, default=())
    """The tasks that `sources` were made of."""
    sources: deque[Source] = attrs.field(init=False, factory=deque)
    hit_a_bound: bool = attrs.field(init=False, default=False)
    """Whether the last claim left out jobs of which enough were held already."""

    def share(self, identifiers: tuple[str, ...], bounds: Sequence[Bound]) -> None:
        """Claim jobs of these tasks from now on. What was learned of others is forgotten."""
        self.identifiers = identifiers
        self.sources = deque(map(Source, shares_of(identifiers, bounds)))

    @property
    def is_bounded(self) -> bool:
        """Whether there are tasks of which no more than so many jobs may be held."""
        return any(source.share.bounds for source in self.sources)

    async def claim(self, limit: int, flags: FlagRules, unended: Iterable[str]) -> list[Job]:
        """Claim up to so many jobs, and of bounded tasks no more than their bounds.

        `unended` are the tasks of what is held, once for each job: they take up room of the bounds.
        """
        sources = self._next_sources()
        bounds = {bound for source in sources for bound in source.share.bounds}
        used = used_of(bounds, unended) if bounds else {}
        claimed: list[Job] = []
        hit_a_bound = False
        for source in sources:
            if claimed and _is_cancelled():
                break  # what was claimed is not to be lost over what could be
            wanted = limit - len(claimed)
            room = room_of(source.share, used, wanted)
            jobs = await self._claim_readable(source, room, flags)
            hit_a_bound |= len(jobs) == room < wanted
            used.update((bound, used[bound] + len(jobs)) for bound in source.share.bounds)
            claimed += jobs
        self.hit_a_bound = hit_a_bound
        return claimed if len(sources) == 1 else sorted(claimed, key=_priority)

    async def _claim_readable(self, source: Source, limit: int, flags: FlagRules) -> list[Job]:
        try:
            return await self._claim_source(source, limit, flags)
        except StatementFailed as error:
            if not is_unreadable(error) or not await fail_unreadable(self._session, source.share.identifiers):
                raise
        return await self._claim_source(source, limit, flags)

    async def _claim_source(self, source: Source, limit: int, flags: FlagRules) -> list[Job]:
        if limit == 0:
            return []
        if (position := source.floor.at(trio.current_time())) is None:
            return await self._claim_anywhere(source, limit, flags)
        jobs = await self._claim_from(position, source, limit, flags)
        if len(jobs) == limit or (jobs and _is_cancelled()):
            return jobs
        source.floor.forget()
        return jobs + await self._get_jobs(source, limit - len(jobs), flags, None)

    async def _claim_anywhere(self, source: Source, limit: int, flags: FlagRules) -> list[Job]:
        began = trio.current_time()
        if source.front.is_worth_a_look(began):
            plain = await plain_claims.how_plain(self._session, source.share.identifiers, limit)
            began = trio.current_time()
            source.front.seen(plain, began)
        jobs = await self._claim_from(None, source, limit, flags)
        now = trio.current_time()
        source.front.learn(jobs, now - began, now)
        source.floor.learn(jobs, now - began, now)
        return jobs

    async def _claim_from(
        self, position: Position | None, source: Source, limit: int, flags: FlagRules
    ) -> list[Job]:
        if (plain := source.front.plain(trio.current_time())) is not None:
            jobs = await plain_claims.get_plain_jobs(
                self._session,
                self._worker_id,
                source.share.identifiers,
                limit,
                flags,
                floor=position,
                plain=plain,
            )
            if jobs:
                return jobs
        jobs = await self._get_jobs(source, limit, flags, position)
        if jobs and plain is not None:
            source.front.forget()  # what a plain claim takes is not all there is
        return jobs

    async def _get_jobs(
        self, source: Source, limit: int, flags: FlagRules, floor: Position | None
    ) -> list[Job]:
        return await claims.get_jobs(
            self._session,
            self._worker_id,
            source.share.identifiers,
            limit,
            flags,
            floor=floor,
            width=source.front.width(trio.current_time()),
        )

    def _next_sources(self) -> Sequence[Source]:
        """Return what there is to claim from, in the order of this claim: each comes first in its turn."""
        self.sources.rotate(-1)
        return tuple(self.sources)


def _is_cancelled() -> bool:
    return trio.current_effective_deadline() == -math.inf
