"""The local queue as a state machine: what it may do next is decided here, without I/O and without a clock.

Rule 1. A job is held from the claim that brought it until a slot takes it, or it is given back.
Rule 2. Claims ask for what idle slots can run now, plus room. Room is filled up again when a quarter of it
        is empty, so that slots never wait for a round trip while there is a backlog.
Rule 3. A claim that came back full is repeated as soon as there is room. One that came back short is
        repeated when something announces jobs, or at the next poll.
        What was announced may be more urgent than all that is held, so the room that there is, if any, is
        filled up for it soon, and what comes takes its place among the rest.
Rule 4. With a refetch delay, a claim that brought few jobs is not repeated before the delay is over, or so
        many jobs were announced that waiting longer would be a pity.
Rule 5. Jobs that nobody took for as long as their time to live are given back, and none are claimed until a
        slot asks.
Rule 6. Released is the end: everything held is given back, nothing is claimed any more.
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
"""How long after the last claim there may be one although much is held, in seconds: it brings few jobs."""


class Mode(enum.Enum):
    """What the local queue is about."""

    STARTING = "starting"
    """Nothing was claimed yet."""
    POLLING = "polling"
    """It holds nothing and looks for jobs."""
    HOLDING = "holding"
    """It holds jobs that slots will take."""
    EXPIRED = "expired"
    """It gave back what nobody took; a slot must ask first."""
    RELEASED = "released"
    """It is over."""


class Occasion(enum.Enum):
    """What can happen to the local queue."""

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
"""What is not listed changes nothing."""


def next_mode(mode: Mode, occasion: Occasion) -> Mode:
    """Return the mode after an occasion."""
    return TRANSITIONS.get((mode, occasion), mode)


@attrs.frozen
class Claim:
    """Claim so many jobs now."""

    limit: int


@attrs.frozen
class GiveBack:
    """Give back everything that is held."""


@attrs.frozen
class Rest:
    """Do nothing until then, or until something happens."""

    until: float


Step: TypeAlias = Claim | GiveBack | Rest


@attrs.frozen(kw_only=True)
class Situation:
    """Everything that the next step depends on. Times are those of one clock, in seconds."""

    mode: Mode
    now: float
    idle_slots: int
    held: int
    size: int
    """How many jobs may be held beyond what idle slots can run at once."""
    is_announced: bool = False
    """Whether jobs were announced since the last claim began."""
    claimed_at: float = -math.inf
    """When the last claim came back."""
    claim_at: float
    """When the next claim is allowed."""
    expires_at: float
    """When what is held has not been taken for too long."""


def next_step(situation: Situation) -> Step:
    """Decide what to do next."""
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
    """Return at how many held jobs the room is filled up again."""
    return size * 3 // 4


def draw_abort_threshold(delay: RefetchDelayOptions, size: int) -> float:
    """Return how many announced jobs end this delay, at random so that a fleet does not wake as one."""
    most = 5 * size if delay.max_abort_threshold is None else delay.max_abort_threshold
    return math.inf if math.isinf(most) else max(1, math.floor(random.random() * most))  # noqa: S311
