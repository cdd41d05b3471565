"""Which jobs a claim may bring: as many as there is room for, of bounded tasks what their bounds allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs


@attrs.frozen
class Bound:
    """Of the jobs of these tasks, so many may run at once in a worker."""

    limit: int
    identifiers: frozenset[str]


@attrs.frozen
class Share:
    """Tasks that are claimed together, since the same bounds hold for them."""

    identifiers: tuple[str, ...]
    bounds: tuple[Bound, ...] = ()


Used: TypeAlias = Mapping[Bound, int]


def shares_of(identifiers: Iterable[str], bounds: Sequence[Bound]) -> tuple[Share, ...]:
    """Return the tasks by the bounds that hold for them; each task is in one share."""
    grouped: dict[tuple[Bound, ...], list[str]] = {}
    for identifier in identifiers:
        holding = tuple(bound for bound in bounds if identifier in bound.identifiers)
        grouped.setdefault(holding, []).append(identifier)
    return tuple(Share(tuple(names), holding) for holding, names in grouped.items())


def used_of(bounds: Iterable[Bound], running: Iterable[str]) -> dict[Bound, int]:
    """Return how much of each bound is used up by jobs of these tasks."""
    counts = Counter(running)
    return {bound: sum(counts[name] for name in bound.identifiers) for bound in bounds}


def room_of(share: Share, used: Used, limit: int) -> int:
    """Return how many jobs of a share may be claimed when there is room for `limit` in all."""
    return max(0, min([limit, *(bound.limit - used[bound] for bound in share.bounds)]))


@attrs.frozen
class ClaimRules:
    """Which jobs a worker may claim. Each rule has the name of its option."""

    forbidden_flags: Sequence[str] = ()
    """A job must have none of these."""
    accepted_flags: Sequence[str] | None = None
    """A job must have one of these, at least. None is no rule."""
    allowed_flags: Sequence[str] | None = None
    """A job must have no others than these. None is no rule."""


ANY_JOB = ClaimRules()
