"""How jobs of one source are claimed: which statement, and from where on.

By what is remembered of the claims before, a claim decides

1. from where on to look: mostly everywhere. If that took long, from the best job on that was found last, once
   it has looked at a part of what is before, if one is due;
2. which statement to use: a plain claim, if the last probe found one that is enough, else the whole claim;
3. whether that was all: if a plain claim brought nothing, the whole one is next.
"""

from __future__ import annotations

import math

import attrs
import trio

from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.look_back import Position
from trio_graphile._database.claiming.memory import ClaimMemory, PlainClaim
from trio_graphile._database.connection import Executor
from trio_graphile._database.unreadable import fail_unreadable, is_unreadable
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.bounds import ClaimRules, Share
from trio_graphile._model.jobs import Job


@attrs.define(eq=False)
class Source:
    """Tasks that are claimed together, and what is remembered of their claims."""

    _session: Executor
    _worker_id: str
    share: Share
    look_again_at: float = attrs.field(init=False, default=math.inf)
    """When a claim will look where the last one did not, by Trio's clock. Infinity if it looked everywhere,
    or had no room for more."""
    _memory: ClaimMemory = attrs.field(init=False, factory=ClaimMemory)

    def look_everywhere(self) -> None:
        """Have the next claim look everywhere."""
        self._memory.start = None

    @property
    def start(self) -> Position | None:
        """From where on its claims look; None for everywhere."""
        return self._memory.start

    async def claim(self, limit: int, rules: ClaimRules, others_start: Position | None = None) -> list[Job]:
        """Claim up to so many jobs. Those that nobody can read fail for good.

        Once one statement was answered, it is not cancelled before another: it is known what is locked.
        `others_start` is the start of other tasks, if they have one.
        """
        self.look_again_at = math.inf
        jobs = list[Job]()
        if limit == 0:
            return jobs
        try:
            await self._claim(jobs, limit, rules, others_start)
        except StatementFailed as error:
            if not is_unreadable(error) or not await fail_unreadable(self._session, self.share.identifiers):
                raise
            await self._claim(jobs, limit, rules, others_start)
        return jobs

    async def _claim(
        self, jobs: list[Job], limit: int, rules: ClaimRules, others_start: Position | None
    ) -> None:
        """Claim jobs until there are so many. If a statement fails, `jobs` are what others have brought."""
        memory = self._memory
        if memory.is_probe_due(trio.current_time()):
            found, dead_rows = await plain_claims.probe(
                self._session, self.share.identifiers, limit, start=memory.start
            )
            memory.probed(found, dead_rows, trio.current_time())
            if is_cancelled():
                return
        start, began = memory.start, trio.current_time()
        if start is None:
            jobs += await self._claim_from(None, limit - len(jobs), rules)
            now = trio.current_time()
            memory.learn(jobs, now - began, now, others_start)
            return
        await self._look_back(jobs, start, limit, rules)
        if len(jobs) < limit and not is_cancelled():
            from_start = await self._claim_from(start, limit - len(jobs), rules)
            memory.learn_from_start(from_start, trio.current_time())
            jobs += from_start
        if len(jobs) < limit:
            self.look_again_at = memory.look_back.next_at()

    async def _look_back(self, jobs: list[Job], start: Position, limit: int, rules: ClaimRules) -> None:
        """Claim what is found before the start, in the parts that are due."""
        memory, look_back = self._memory, self._memory.look_back
        look_back.begin(trio.current_time())
        while len(jobs) < limit and not is_cancelled():
            began = trio.current_time()
            part = look_back.part(start, began)
            if part is None:
                break
            found = await self._claim_whole(part.begin, limit - len(jobs), rules, end=part.end)
            jobs += found
            now = trio.current_time()
            if len(jobs) < limit:  # else there may be more of them
                look_back.looked(part, now - began, now)
            memory.looked_back(part, found, now - began)

    async def _claim_from(self, start: Position | None, limit: int, rules: ClaimRules) -> list[Job]:
        plain_claim = self._memory.plain_claim(trio.current_time())
        if plain_claim is None:
            return await self._claim_whole(start, limit, rules)
        jobs = await self._claim_plainly(plain_claim, start, limit, rules)
        if jobs or is_cancelled():
            return jobs
        jobs = await self._claim_whole(start, limit, rules)
        if jobs:
            self._memory.forget_plain_claim()  # what it takes is not all there is
        return jobs

    async def _claim_plainly(
        self, which: PlainClaim, start: Position | None, limit: int, rules: ClaimRules
    ) -> list[Job]:
        return await plain_claims.get_plain_jobs(
            self._session,
            self._worker_id,
            self.share.identifiers,
            limit,
            rules,
            start=start,
            which=which,
        )

    async def _claim_whole(
        self, start: Position | None, limit: int, rules: ClaimRules, *, end: Position | None = None
    ) -> list[Job]:
        return await claims.get_jobs(
            self._session,
            self._worker_id,
            self.share.identifiers,
            limit,
            rules,
            start=start,
            end=end,
            width=self._memory.width(trio.current_time()),
        )


def is_cancelled() -> bool:
    """Whether whatever is awaited next will be cancelled."""
    return trio.current_effective_deadline() == -math.inf
