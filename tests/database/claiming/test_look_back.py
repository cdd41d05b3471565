"""Where and when a worker looks for jobs before its start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from trio_graphile._database.claiming.look_back import END_OF_TIME, LookBack, Part, Position

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
START = Position(5, NOON)
BETTER = Part(begin=None, end=Position(4, END_OF_TIME), is_better=True)


@attrs.define
class Looks:
    """Looks back from one place at the time of a clock, for as long as something is due."""

    look_back: LookBack = attrs.field(factory=LookBack)
    start: Position = START
    now: float = 100.0

    def look(self, seconds: float = 0.001) -> list[Part]:
        """Look at each part that is due, for so many seconds; return them."""
        parts = []
        while (part := self.look_back.part(self.start, self.now)) is not None:
            parts.append(part)
            self.now += seconds
            self.look_back.looked(part, seconds, self.now)
        return parts


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
    looks = Looks()
    _, first, second, *_ = looks.look(0.0001)
    assert first.begin == Position(5, NOON - timedelta(seconds=1))
    assert second.begin == Position(5, NOON - timedelta(seconds=3))


def test_a_part_that_took_longer_is_followed_by_a_narrower_one_after_a_pause() -> None:
    looks = Looks()
    better, first = looks.look(0.03)
    assert better == BETTER
    assert looks.look_back.part(START, looks.now + 0.03) is None
    looks.now += 0.031
    [second] = looks.look(0.08)
    assert (first.begin, second.end) == (second.end, Position(5, NOON - timedelta(seconds=1)))
    assert second.begin == Position(5, NOON - timedelta(seconds=1) - timedelta(seconds=2 / 3))
    assert looks.look_back.part(START, looks.now + 0.179) is None
    looks.now += 0.181
    [third] = looks.look(0.08)
    assert third.begin is not None
    since_noon = (NOON - third.begin.run_at).total_seconds()
    assert since_noon == pytest.approx(1 + 2 / 3 + 1 / 3), "it is narrowed to a half at most"


def test_quick_looks_follow_one_another_until_there_has_to_be_a_pause() -> None:
    looks = Looks()
    assert sum(0.003 for _ in older(looks.look(0.003))) == pytest.approx(0.03)
    looks.now += 100
    assert sum(0.003 for _ in older(looks.look(0.003))) == pytest.approx(0.03), "that is not made up for"


def test_better_priorities_have_a_time_of_their_own() -> None:
    looks = Looks()
    looks.look(0.03)
    assert looks.look_back.part(START, looks.now) is None
    looks.now = 100.03 + 20 * 0.03 + 0.001
    assert looks.look_back.part(START, looks.now) == BETTER
    looks.look_back.looked(BETTER, 1.0, looks.now)
    looks.look(0.001)
    assert BETTER not in looks.look()
    looks.now += 3.001
    assert looks.look_back.part(START, looks.now) == BETTER


def test_no_priority_is_better_than_the_best() -> None:
    best = Position(-32768, NOON)
    assert not any(part.is_better for part in Looks(start=best).look())


def test_a_round_begins_three_seconds_after_the_one_before_where_the_start_is_then() -> None:
    looks = Looks()
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
    look_back.looked(BETTER, 0.001, now=100.0)
    part = look_back.part(START, 100.01)
    assert part is not None
    assert look_back.part(START, 100.02) == part


def test_jobs_from_before_all_our_times_are_in_the_last_part() -> None:
    looks = Looks(start=Position(5, datetime(1, 6, 1, tzinfo=UTC)))
    assert older(looks.look(0.0001))[-1].begin is None


def test_a_claim_that_has_looked_at_better_priorities_is_repeated_for_older_jobs_only() -> None:
    """Nobody would ever rest where nothing comes: better priorities are due every few milliseconds."""
    looks = Looks()
    looks.look(0.0001)
    assert looks.look_back.next_at(100.0) == looks.look_back.next_at(99.0) >= 102.9
    later = looks.now + 0.001
    assert looks.look_back.next_at(later) < later + 0.01
