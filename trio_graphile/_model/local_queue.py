"""The local queue as a state machine: decides what it does next, without I/O and without a clock.

Rule 1. A job is held from the claim that brought it until a slot takes it, or it is given back.
Rule 2. A claim asks for as many jobs as idle slots can run now, plus room. The room is filled up when a
        quarter of it is empty, so that slots never wait for a round trip while there is a backlog.
Rule 3. A claim that came back full is repeated as soon as there is room. One that came back short is
        repeated when jobs are announced, or at the next poll; sooner if it did not look everywhere.
        Announced jobs may be more urgent than all that are held. So the room that is left, if any, is filled
        up for them soon, and they take their place among the rest.
Rule 4. With a refetch delay, a claim that brought few jobs is not repeated before the delay is over, or so
        many jobs were announced that it would be wrong to wait longer.
Rule 5. Jobs that no slot took within their time to live are given back, and no more are claimed until a
        slot asks.
Rule 6. A released queue is at its end: it gives back all that it holds, and claims nothing more.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Mapping
from typing import TypeAlias

import attrs

from trio_graphile._model.options import RefetchDelayOptions

_EARLY_CLAIM_INTERVAL = 0.02
"""How soon after the last claim another may follow although many jobs are held, in seconds: it brings few."""


class Mode(enum.Enum):
    """The modes of the local queue."""

    STARTING = "starting"
    """The queue has claimed nothing yet."""
    POLLING = "polling"
    """The queue holds nothing and looks for jobs."""
    HOLDING = "holding"
    """The queue holds jobs that slots will take."""
    EXPIRED = "expired"
    """The queue gave back the jobs that no slot took; it claims again when a slot asks."""
    RELEASED = "released"
    """The queue has ended."""


class Occasion(enum.Enum):
    """The occasions on which the mode may change."""

    START = "start"
    JOBS_CAME = "jobs came"
    LAST_TAKEN = "last taken"
    TIME_TO_LIVE_OVER = "time to live over"
    SLOT_ASKED = "slot asked"
    RELEASE = "release"


TRANSITIONS: Mapping[tuple[Mode, Occasion], Mode] = {
    (Mode.STARTING, Occasion.START): Mode.POLLING,
    (Mode.STARTING, Occasion.RELEASE): Mode.RELEASED,
    (Mode.POLLING, Occasion.JOBS_CAME): Mode.HOLDING,
    (Mode.POLLING, Occasion.RELEASE): Mode.RELEASED,
    (Mode.HOLDING, Occasion.JOBS_CAME): Mode.HOLDING,
    (Mode.HOLDING, Occasion.LAST_TAKEN): Mode.POLLING,
    (Mode.HOLDING, Occasion.TIME_TO_LIVE_OVER): Mode.EXPIRED,
    (Mode.HOLDING, Occasion.RELEASE): Mode.RELEASED,
    (Mode.EXPIRED, Occasion.SLOT_ASKED): Mode.POLLING,
    (Mode.EXPIRED, Occasion.RELEASE): Mode.RELEASED,
    (Mode.RELEASED, Occasion.RELEASE): Mode.RELEASED,
}
"""Pairs that are not listed change nothing."""


def next_mode(mode: Mode, occasion: Occasion) -> Mode:
    """Return the mode after an occasion."""
    return TRANSITIONS.get((mode, occasion), mode)


@attrs.frozen
class Claim:
    """Claim so many jobs now."""

    limit: int


@attrs.frozen
class GiveBack:
    """Give back all jobs that are held."""


@attrs.frozen
class Rest:
    """Do nothing until this time, or until something happens."""

    until: float


Step: TypeAlias = Claim | GiveBack | Rest


@attrs.frozen(kw_only=True)
class Situation:
    """All that the next step depends on. Times are of one clock, in seconds."""

    mode: Mode
    now: float
    idle_slots: int
    held: int
    size: int
    """How many jobs may be held beyond what idle slots can run at once."""
    is_announced: bool = False
    """Whether jobs were announced since the last claim began."""
    claimed_at: float = -math.inf
    """When the last claim ended."""
    claim_at: float
    """When the next claim is allowed."""
    expires_at: float
    """When the held jobs have waited too long for a slot."""


def next_step(situation: Situation) -> Step:
    """Return the next step."""
    if situation.mode in (Mode.STARTING, Mode.EXPIRED, Mode.RELEASED):
        return Rest(math.inf)
    if situation.mode is Mode.HOLDING and situation.now >= situation.expires_at:
        return GiveBack()
    wake_up = situation.expires_at if situation.mode is Mode.HOLDING else math.inf
    limit, claim_at = situation.idle_slots + situation.size - situation.held, situation.claim_at
    if situation.held > refill_mark(situation.size):
        if not situation.is_announced or situation.size == 0:
            return Rest(wake_up)
        claim_at = max(claim_at, situation.claimed_at + _EARLY_CLAIM_INTERVAL)
    if limit <= 0:
        return Rest(wake_up)
    if situation.now >= claim_at:
        return Claim(limit)
    return Rest(min(wake_up, claim_at))


def refill_mark(size: int) -> int:
    """Return the number of held jobs at which the room is filled up again."""
    return size * 3 // 4


def draw_abort_threshold(delay: RefetchDelayOptions, size: int) -> float:
    """Return how many announced jobs end this delay: at random, so that workers do not wake all at once."""
    most = 5 * size if delay.max_abort_threshold is None else delay.max_abort_threshold
    return math.inf if math.isinf(most) else max(1, math.floor(random.random() * most))  # noqa: S311
