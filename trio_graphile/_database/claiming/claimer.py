"""The claimer: how many jobs a worker claims, and of which tasks. `source` has how they are claimed.

Tasks that share their bounds are one source. A claim asks one source after the other, until it has as many
jobs as are wanted; each source comes first in its turn.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter

import attrs

from trio_graphile._database.claiming.source import Source, is_cancelled
from trio_graphile._database.connection import Executor
from trio_graphile._model.bounds import Bound, ClaimRules, room_of, shares_of, used_of
from trio_graphile._model.jobs import Job

_priority = attrgetter("priority")


@attrs.define(eq=False)
class Claimer:
    """Claims for one worker, one claim at a time: whoever calls `claim` sees to that."""

    _session: Executor
    _worker_id: str
    identifiers: tuple[str, ...] = attrs.field(init=False, default=())
    """The tasks that `share` was called with."""
    hit_a_bound: bool = attrs.field(init=False, default=False)
    """Whether the last claim left out jobs of which enough were held already."""
    look_again_at: float = attrs.field(init=False, default=math.inf)
    """When a claim will look where the last one did not, since it would have taken long, by Trio's clock.
    Infinity if it looked everywhere, or had no room for more."""
    _sources: deque[Source] = attrs.field(init=False, factory=deque)

    def share(self, identifiers: tuple[str, ...], bounds: Sequence[Bound]) -> None:
        """Claim jobs of these tasks from now on. What was learned of others is forgotten."""
        self.identifiers = identifiers
        self._sources = deque(
            Source(self._session, self._worker_id, share) for share in shares_of(identifiers, bounds)
        )

    @property
    def is_bounded(self) -> bool:
        """Whether there are tasks of which no more than so many jobs may be held."""
        return any(source.share.bounds for source in self._sources)

    def look_everywhere(self) -> None:
        """Have the next claim look everywhere, however long that takes."""
        for source in self._sources:
            source.look_everywhere()

    async def claim(self, limit: int, rules: ClaimRules, unended: Iterable[str]) -> list[Job]:
        """Claim up to so many jobs, and of bounded tasks no more than their bounds.

        `unended` are the tasks of what is held, once for each job: they take up room of the bounds.
        """
        self._sources.rotate(-1)
        sources = tuple(self._sources)
        bounds = {bound for source in sources for bound in source.share.bounds}
        used = used_of(bounds, unended) if bounds else {}
        claimed: list[Job] = []
        hit_a_bound, self.look_again_at = False, math.inf
        for number, source in enumerate(sources):
            if number and is_cancelled():
                break  # what was claimed is not to be lost over what could be, nor that it is nothing
            wanted = limit - len(claimed)
            room = room_of(source.share, used, wanted)
            others_start = next((other.start for other in sources if other.start is not None), None)
            jobs = await source.claim(room, rules, others_start)
            hit_a_bound |= len(jobs) == room < wanted
            used.update((bound, used[bound] + len(jobs)) for bound in source.share.bounds)
            claimed += jobs
            self.look_again_at = min(self.look_again_at, source.look_again_at)
        self.hit_a_bound = hit_a_bound
        return claimed if len(sources) == 1 else sorted(claimed, key=_priority)
