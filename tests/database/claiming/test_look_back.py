"""Where and when a worker looks for jobs before its start."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from trio_graphile._database.claiming.look_back import LookBack, Part, Position
from trio_graphile._model.instants import LAST

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
START = Position(5, NOON)
BETTER = Part(begin=None, end=Position(4, LAST), is_better=True)


@attrs.define
class Looks:
    """Looks back from one place at the time of a clock, for as long as something is due."""

    always: float = 0.0
    """How long each look takes, wherever it looks, in seconds."""
    look_back: LookBack = attrs.field(factory=LookBack)
    start: Position = START
    now: float = 100.0

    def look(self, seconds: float = 0.001) -> list[Part]:
        """Begin a claim and look at each part that is due, for so many seconds; return them."""
        parts = []
        self.look_back.begin(self.now)
        while (part := self.look_back.part(self.start, self.now)) is not None:
            parts.append(part)
            took = self.always if part.is_better else self.always + seconds
            self.now += took
            self.look_back.looked(part, took, self.now)
        return parts

    def look_until_the_front(self, seconds: float, every: float = 0.01) -> float:
        """Begin a claim every so many seconds until a round is over; return how long it took."""
        began = self.now
        for _ in range(100_000):
            if any(part.begin is None for part in older(self.look(seconds))):
                return self.now - began
            self.now += every
        raise AssertionError("the round does not end")


def older(parts: list[Part]) -> list[Part]:
    """Return those of the round."""
    return [part for part in parts if not part.is_better]


def test_a_round_goes_back_from_the_start_without_a_gap_to_the_front_of_all_jobs() -> None:
    parts = Looks().look(0.0001)
    assert parts[0] == BETTER
    parts = older(parts)
    assert parts[0].end == START
    assert [part.begin for part in parts[:-1]] == [part.end for part in parts[1:]]
    assert parts[-1].begin is None


def test_a_part_that_took_less_than_it_may_is_followed_by_a_wider_one() -> None:
    first, second, *_ = older(Looks().look(0.0001))
    assert first.begin == Position(5, NOON - timedelta(seconds=1))
    assert second.begin == Position(5, NOON - timedelta(seconds=3))


def test_a_part_that_took_longer_is_followed_by_a_narrower_one() -> None:
    looks = Looks(always=0.001)
    parts = []
    for seconds in (0.001, 0.001, 0.001, 0.08, 0.08, 0.08, 0.08):
        looks.now += 1.0
        looks.look_back.begin(looks.now)
        part = looks.look_back.part(START, looks.now)
        while part is not None and part.is_better:
            looks.look_back.looked(part, 0.001, looks.now)
            part = looks.look_back.part(START, looks.now)
        assert part is not None
        looks.look_back.looked(part, seconds, looks.now)
        parts.append(part)
    ends = [(NOON - part.end.run_at).total_seconds() for part in parts]
    widths = [later - earlier for earlier, later in itertools.pairwise(ends)]
    assert widths == pytest.approx([1, 2, 4, 8, 4, 2]), "by a half at most"


def test_what_a_look_takes_anyway_makes_no_part_narrower() -> None:
    """On a slow network, or a busy machine, each takes long, and none would come far."""
    looks = Looks(always=0.025)
    assert looks.look_until_the_front(0.0) < 3.0
    assert looks.look_back.round_seconds == pytest.approx(0.0)


def test_a_round_ends_however_long_each_look_takes() -> None:
    looks = Looks()
    looks.look_back.begin(looks.now)
    looks.look_back.looked(BETTER, 0.0, looks.now)  # one was quick
    assert looks.look_until_the_front(0.05) < 160


@pytest.mark.parametrize(("every", "longest"), [(0.01, 16), (1.0, 17), (5.0, 55)])
def test_five_seconds_of_dead_rows_are_looked_over_soon_however_rare_claims_are(
    every: float, longest: float
) -> None:
    """Half an hour of them, at the same rate all the time."""
    looks = Looks(always=0.001)
    rate, oldest, began = 5.0 / 1800, NOON - timedelta(minutes=30), looks.now
    for _ in range(10_000):
        looks.look_back.begin(looks.now)
        while (part := looks.look_back.part(START, looks.now)) is not None:
            since = oldest if part.begin is None else max(oldest, part.begin.run_at)
            rows = 0.0 if part.is_better else max(0.0, (part.end.run_at - since).total_seconds()) * rate
            looks.now += 0.001 + rows
            looks.look_back.looked(part, 0.001 + rows, looks.now)
            if part.begin is None and not part.is_better:
                assert looks.look_back.round_seconds == pytest.approx(5.0, rel=0.01)
                assert looks.now - began < longest
                return
        looks.now += every
    raise AssertionError("the round does not end")


def test_claims_go_on_for_twice_as_long_as_it_was_looked_back() -> None:
    looks = Looks()
    looked = 0
    while looks.now < 102:
        looked += len(older(looks.look(0.02)))
        looks.now += 0.001
    assert 0.02 * looked == pytest.approx(2 / 3, abs=0.1)


def test_better_priorities_have_a_time_of_their_own() -> None:
    looks = Looks(always=0.03)
    assert looks.look()[0] == BETTER
    better_at = 100.03 + 20 * 0.03
    assert BETTER not in looks.look()
    looks.now = better_at + 0.001
    assert looks.look_back.part(START, looks.now) == BETTER
    looks.look_back.looked(BETTER, 1.0, looks.now)
    assert looks.look_back.part(START, looks.now + 2.999) != BETTER
    assert looks.look_back.part(START, looks.now + 3.001) == BETTER


def test_no_priority_is_better_than_the_best_and_nobody_waits_for_one() -> None:
    looks = Looks(start=Position(-32768, NOON))
    assert not any(part.is_better for part in looks.look())
    assert looks.look_back.next_at() > looks.now


def test_a_round_begins_three_seconds_after_the_one_before_where_the_start_is_then() -> None:
    looks = Looks(always=0.0001)
    parts = older(looks.look(0.0001))
    assert parts[-1].begin is None
    assert looks.look_back.round_seconds == pytest.approx(0.0001 * len(parts))
    looks.start = Position(5, NOON + timedelta(seconds=10))
    looks.now = 102.99
    assert older(looks.look(0.0001)) == []
    looks.now = 103.01
    assert older(looks.look(0.0001))[0].end == looks.start


def test_a_part_that_may_have_more_jobs_is_next_again() -> None:
    look_back = LookBack()
    look_back.begin(100.0)
    look_back.looked(BETTER, 0.001, now=100.0)
    part = look_back.part(START, 100.01)
    assert part is not None
    assert look_back.part(START, 100.02) == part


def test_jobs_from_before_all_our_times_are_in_the_last_part() -> None:
    looks = Looks(start=Position(5, datetime(1, 6, 1, tzinfo=UTC)))
    assert older(looks.look(0.0001))[-1].begin is None


def test_a_claim_that_has_looked_at_better_priorities_is_repeated_for_older_jobs_only() -> None:
    """Nobody would ever rest where nothing comes: better priorities are due every few milliseconds."""
    looks = Looks(always=0.0001)
    looks.look(0.0001)
    assert looks.look_back.next_at() == pytest.approx(103.0)
    looks.look_back.looked(BETTER, 0.01, looks.now)
    looks.look_back.begin(looks.now + 0.001)
    assert looks.look_back.next_at() == looks.now + 20 * 0.01
