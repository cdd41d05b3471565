"""How jobs of one source are claimed: which statement, and from where on.

By what is remembered of the claims before, a claim decides

1. from where on to look: from the best job on that was found last if finding it took long, mostly everywhere;
2. which statement to use: a plain claim, if the last probe found one that is enough, else the whole claim;
3. whether that was all: if a plain claim brought nothing, the whole one is next. If too few came from a
   start on, one that looks everywhere is next, or has to wait until the start is forgotten.
"""

from __future__ import annotations

import math

import attrs
import trio

from trio_graphile._database.claiming import claims, plain_claims
from trio_graphile._database.claiming.memory import ClaimMemory, PlainClaim, Position
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
    """When a claim will find jobs that the last one may have left out, since it did not look everywhere, by
    Trio's clock. Infinity if it left out none that it had room for."""
    _memory: ClaimMemory = attrs.field(init=False, factory=ClaimMemory)

    async def claim(self, limit: int, rules: ClaimRules) -> list[Job]:
        """Claim up to so many jobs. Those that nobody can read fail for good.

        Once one statement was answered, it is not cancelled before another: it is known what is locked.
        """
        self.look_again_at = math.inf
        if limit == 0:
            return []
        try:
            return await self._claim(limit, rules)
        except StatementFailed as error:
            if not is_unreadable(error) or not await fail_unreadable(self._session, self.share.identifiers):
                raise
        return await self._claim(limit, rules)

    async def _claim(self, limit: int, rules: ClaimRules) -> list[Job]:
        memory, began = self._memory, trio.current_time()
        start = memory.start(began)
        if memory.is_probe_due(began):
            found, dead_rows = await plain_claims.probe(
                self._session, self.share.identifiers, limit, start=start
            )
            began = trio.current_time()
            memory.probed(found, dead_rows, began)
            if is_cancelled():
                return []
        if start is None:
            return await self._claim_anywhere(limit, rules)
        jobs = await self._claim_from(start, limit, rules)
        if len(jobs) == limit or is_cancelled():
            return jobs
        now = trio.current_time()
        memory.learn_from_start(jobs, now - began, now)
        if memory.start(now) is not None:
            self.look_again_at = memory.start_until
            return jobs
        return jobs + await self._claim_whole(None, limit - len(jobs), rules)

    async def _claim_anywhere(self, limit: int, rules: ClaimRules) -> list[Job]:
        memory = self._memory
        began = trio.current_time()
        jobs = await self._claim_from(None, limit, rules)
        now = trio.current_time()
        memory.learn(jobs, now - began, now)
        return jobs

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

    async def _claim_whole(self, start: Position | None, limit: int, rules: ClaimRules) -> list[Job]:
        return await claims.get_jobs(
            self._session,
            self._worker_id,
            self.share.identifiers,
            limit,
            rules,
            start=start,
            width=self._memory.width(trio.current_time()),
        )


def is_cancelled() -> bool:
    """Whether whatever is awaited next will be cancelled."""
    return trio.current_effective_deadline() == -math.inf
