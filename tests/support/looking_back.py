"""Claims that behave as if a million dead rows were in front."""

from __future__ import annotations

import pytest

from trio_graphile._database.claiming import look_back, memory


def have_all_claims_look_back(patch: pytest.MonkeyPatch, *, every: float = 0.02) -> None:
    """Have two claims tell where jobs start, and others look at all before it every so many seconds."""
    patch.setattr(memory, "SLOW_CLAIM_SECONDS", -1.0)
    patch.setattr(memory, "MANY_DEAD_ROWS", 0)
    patch.setattr(memory, "QUICK_ROUND_SECONDS", -1.0)
    patch.setattr(look_back, "BETTER_FACTOR", 1e6)
    patch.setattr(look_back, "WIDEST", 0.0)
    patch.setattr(look_back, "ROUND_SECONDS", every)
