"""The local queue's state machine, as the table that it is."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.local_queue import (
    TRANSITIONS,
    Claim,
    GiveBack,
    Mode,
    Occasion,
    Rest,
    Situation,
    next_mode,
    next_step,
    refill_mark,
)


@pytest.mark.parametrize(
    ("mode", "occasion", "after"),
    [
        (Mode.STARTING, Occasion.START, Mode.POLLING),
        (Mode.STARTING, Occasion.SLOT_ASKED, Mode.STARTING),
        (Mode.POLLING, Occasion.JOBS_CAME, Mode.HOLDING),
        (Mode.POLLING, Occasion.TIME_TO_LIVE_OVER, Mode.POLLING),
        (Mode.HOLDING, Occasion.JOBS_CAME, Mode.HOLDING),
        (Mode.HOLDING, Occasion.LAST_TAKEN, Mode.POLLING),
        (Mode.HOLDING, Occasion.TIME_TO_LIVE_OVER, Mode.EXPIRED),
        (Mode.EXPIRED, Occasion.JOBS_CAME, Mode.EXPIRED),
        (Mode.EXPIRED, Occasion.SLOT_ASKED, Mode.POLLING),
        *[(mode, Occasion.RELEASE, Mode.RELEASED) for mode in Mode],
        *[(Mode.RELEASED, occasion, Mode.RELEASED) for occasion in Occasion],
    ],
)
def test_each_occasion_leads_where_the_table_says(mode: Mode, occasion: Occasion, after: Mode) -> None:
    assert next_mode(mode, occasion) is after


def test_every_mode_is_reached_from_the_start_and_leads_to_the_end() -> None:
    reached = {Mode.STARTING}
    while more := {after for (mode, _), after in TRANSITIONS.items() if mode in reached} - reached:
        reached |= more
    assert reached == set(Mode)
    assert all(next_mode(mode, Occasion.RELEASE) is Mode.RELEASED for mode in Mode)


def test_the_picture_in_the_documentation_is_that_of_the_table(tmp_path: Path) -> None:
    """If not: `python docs/state_diagram.py docs/local_queue.svg`."""
    docs = Path(__file__).parents[2] / "docs"
    subprocess.run([sys.executable, docs / "state_diagram.py", tmp_path / "drawn.svg"], check=True)
    assert (tmp_path / "drawn.svg").read_text() == (docs / "local_queue.svg").read_text()


CALM = Situation(
    mode=Mode.POLLING,
    now=100.0,
    idle_slots=2,
    held=0,
    size=10,
    claim_at=-math.inf,
    expires_at=math.inf,
)


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ({}, Claim(12)),
        ({"size": 0}, Claim(2)),
        ({"size": 0, "idle_slots": 0}, Rest(math.inf)),
        ({"claim_at": 105.0}, Rest(105.0)),
        ({"claim_at": 100.0}, Claim(12)),
        ({"mode": Mode.STARTING}, Rest(math.inf)),
        ({"mode": Mode.EXPIRED}, Rest(math.inf)),
        ({"mode": Mode.RELEASED}, Rest(math.inf)),
        ({"mode": Mode.HOLDING, "held": 8, "idle_slots": 0, "expires_at": 400.0}, Rest(400.0)),
        ({"mode": Mode.HOLDING, "held": 7, "idle_slots": 0, "expires_at": 400.0}, Claim(3)),
        (
            {"mode": Mode.HOLDING, "held": 5, "idle_slots": 0, "expires_at": 400.0, "claim_at": 101.0},
            Rest(101.0),
        ),
        (
            {"mode": Mode.HOLDING, "held": 5, "idle_slots": 0, "expires_at": 100.5, "claim_at": 101.0},
            Rest(100.5),
        ),
        ({"mode": Mode.HOLDING, "held": 8, "idle_slots": 0, "is_announced": True}, Claim(2)),
        ({"mode": Mode.HOLDING, "held": 8, "is_announced": True, "claimed_at": 99.75}, Claim(4)),
        ({"mode": Mode.HOLDING, "held": 8, "is_announced": True, "claimed_at": 100.0}, Rest(100.02)),
        ({"mode": Mode.HOLDING, "held": 8, "is_announced": True, "claim_at": 101.0}, Rest(101.0)),
        ({"mode": Mode.HOLDING, "held": 10, "idle_slots": 0, "is_announced": True}, Rest(math.inf)),
        ({"mode": Mode.HOLDING, "held": 1, "size": 0, "is_announced": True}, Rest(math.inf)),
        ({"mode": Mode.HOLDING, "held": 6, "idle_slots": 0, "expires_at": 100.0}, GiveBack()),
        ({"mode": Mode.HOLDING, "held": 1, "idle_slots": 0, "expires_at": 99.0}, GiveBack()),
    ],
)
def test_the_next_step_follows_from_the_situation(
    change: dict[str, object], step: Claim | GiveBack | Rest
) -> None:
    assert next_step(attrs.evolve(CALM, **change)) == step  # type: ignore[arg-type]


@given(
    size=st.integers(0, 1000),
    held=st.integers(1, 1000),
    idle_slots=st.integers(0, 100),
    is_announced=st.booleans(),
)
def test_a_claim_fills_the_room_and_never_more(
    size: int, held: int, idle_slots: int, *, is_announced: bool
) -> None:
    situation = attrs.evolve(
        CALM, mode=Mode.HOLDING, size=size, held=held, idle_slots=idle_slots, is_announced=is_announced
    )
    match next_step(situation):
        case Claim(limit):
            assert limit > 0
            assert limit + held == idle_slots + size
            assert held <= refill_mark(size) or is_announced
        case Rest(until):
            assert until == math.inf
            assert held > refill_mark(size)
        case GiveBack():
            pytest.fail("their time is not over")
