"""What is remembered of claims, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest

from trio_graphile import Job
from trio_graphile._database.claiming.look_back import Part, Position
from trio_graphile._database.claiming.memory import ClaimMemory, PlainClaim
from trio_graphile._model.instants import FIRST

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def job_at(second: int, priority: int = 5) -> Job:
    moment = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
    return Job(
        id=second,
        task_identifier="a",
        payload_json="{}",
        priority=priority,
        run_at=moment,
        created_at=moment,
        updated_at=moment,
    )


def second_of_start(memory: ClaimMemory) -> int | None:
    """Return the second of the job that it was found by."""
    return None if memory.start is None else memory.start.run_at.second + 1


def with_a_start() -> ClaimMemory:
    """Return a memory with a start, among many dead rows."""
    memory = ClaimMemory()
    for _ in range(2):
        memory.learn([job_at(10)], 0.1, now=100.0)
    memory.probed(None, 100_000, 100.0)
    return memory


def test_a_start_that_took_long_to_find_twice_is_remembered() -> None:
    memory, jobs = ClaimMemory(), [job_at(1), job_at(2)]
    memory.learn(jobs, 0.1, now=99.0)
    assert memory.start is None
    memory.learn(jobs, 0.1, now=100.0)
    assert memory.start == Position(5, jobs[0].run_at - timedelta(seconds=1))


def test_a_start_is_remembered_if_many_rows_are_dead() -> None:
    memory = ClaimMemory()
    memory.learn([job_at(1)], 0.1, now=99.0)
    memory.learn([job_at(1)], 0.1, now=99.1)
    assert memory.is_probe_due(99.1), "a probe is to tell whether the start is worth it"
    memory.probed(None, 50_000, 99.1)
    assert second_of_start(memory) == 1
    memory.probed(None, 49_999, 101.0)
    assert memory.start is None
    memory.learn([job_at(1)], 0.1, now=101.9)
    assert memory.start is None
    memory.learn([job_at(1)], 0.1, now=102.1)
    assert second_of_start(memory) == 1


def test_a_start_follows_the_jobs_of_its_priority() -> None:
    memory = with_a_start()
    memory.learn_from_start([job_at(20), job_at(21)], now=100.1)
    assert second_of_start(memory) == 20
    memory.learn_from_start([job_at(30, priority=6)], now=100.1)
    memory.learn_from_start([job_at(15)], now=100.1)
    memory.learn_from_start([], now=100.1)
    assert second_of_start(memory) == 20


BETTER, OLDER = (Part(begin=None, end=Position(4, NOON), is_better=is_better) for is_better in (True, False))


def test_a_start_is_forgotten_if_to_look_back_takes_no_time() -> None:
    memory = with_a_start()
    memory.look_back.round_seconds = 0.05
    memory.looked_back(OLDER, [], 0.01)
    assert memory.start is not None
    memory.look_back.round_seconds = 0.04
    memory.looked_back(OLDER, [], 0.01)
    assert memory.start is None


@pytest.mark.parametrize(
    ("part", "jobs", "seconds", "is_forgotten"),
    [
        (BETTER, [job_at(1)], 0.03, True),
        (BETTER, [job_at(1)], 0.01, False),
        (BETTER, [], 0.03, False),
        (OLDER, [job_at(1)], 0.03, False),
    ],
)
def test_a_start_is_forgotten_if_jobs_of_a_better_priority_come_among_dead_rows(
    part: Part, jobs: list[Job], seconds: float, *, is_forgotten: bool
) -> None:
    memory = with_a_start()
    memory.looked_back(part, jobs, seconds)
    assert (memory.start is None) == is_forgotten


def test_tasks_without_jobs_have_the_start_of_others() -> None:
    memory, start = ClaimMemory(), Position(5, NOON)
    memory.learn([], 0.1, now=100.0)
    memory.learn([], 0.1, now=100.1)
    assert memory.start is None
    memory.learn([], 0.1, now=100.2, others_start=start)
    assert memory.start == start


def test_a_job_of_the_first_of_all_times_tells_a_start() -> None:
    memory, job = ClaimMemory(), attrs.evolve(job_at(1), run_at=FIRST)
    for _ in range(2):
        memory.learn([job], 0.1, now=100.0)
    memory.learn_from_start([job], now=100.0)
    assert memory.start == Position(5, FIRST)


def test_with_a_start_it_is_asked_whether_it_is_worth_it_though_no_jobs_come() -> None:
    memory = with_a_start()
    assert not memory.is_probe_due(100.9)
    assert memory.is_probe_due(110.0)


def test_a_new_start_is_looked_back_from_anew() -> None:
    memory = with_a_start()
    old, memory.start = memory.look_back, None
    memory.learn([job_at(20)], 0.1, now=200.0)
    memory.learn([job_at(20)], 0.1, now=200.0)
    assert memory.start is not None
    assert memory.look_back is not old


def test_a_claim_that_was_quick_or_brought_nothing_tells_no_start() -> None:
    memory = ClaimMemory()
    memory.learn([job_at(1)], 0.01, now=100.0)
    memory.learn([], 10.0, now=100.0)
    assert memory.start is None


def test_a_large_claim_took_long_when_it_took_twice_what_a_job_has_taken_at_best() -> None:
    memory, jobs = ClaimMemory(), [job_at(1)] * 1000
    memory.learn(jobs, 0.01, now=100.0)
    memory.learn(jobs, 0.019, now=100.0)
    assert memory.start is None
    memory.learn(jobs, 0.021, now=100.0)
    assert memory.start is None
    memory.learn(jobs, 0.019, now=100.0)
    memory.learn(jobs, 0.021, now=100.0)
    assert memory.start is None
    memory.learn(jobs, 0.021, now=100.0)
    assert memory.start is not None


def test_large_claims_that_have_always_taken_long_tell_a_start_nevertheless() -> None:
    memory, jobs = ClaimMemory(), [job_at(1)] * 24
    memory.learn(jobs, 0.9, now=100.0)
    memory.learn(jobs, 0.9, now=101.0)
    assert memory.start is not None


def test_who_claims_often_probes_once_a_second() -> None:
    memory, jobs = ClaimMemory(), [job_at(1)]
    assert not memory.is_probe_due(100.0)
    memory.learn([], 0.001, now=100.0)
    assert not memory.is_probe_due(100.0)
    memory.learn(jobs, 0.001, now=100.0)
    assert memory.is_probe_due(100.4)
    assert not memory.is_probe_due(100.6)
    memory.probed(PlainClaim.IN_HEAD, 0, 100.4)
    memory.learn(jobs, 0.001, now=101.3)
    assert not memory.is_probe_due(101.3)
    assert memory.is_probe_due(101.4)


def test_a_plain_claim_is_enough_until_the_next_probe_or_a_surprise() -> None:
    memory, jobs = ClaimMemory(), [job_at(1)]
    assert memory.plain_claim(100.0) is None
    memory.probed(PlainClaim.PAST_HEAD, 0, 100.0)
    assert memory.plain_claim(100.9) is PlainClaim.PAST_HEAD
    assert memory.plain_claim(101.1) is None
    memory.learn(jobs, 0.01, now=100.1)
    assert memory.plain_claim(100.2) is PlainClaim.PAST_HEAD
    memory.learn(jobs, 0.1, now=100.2)  # it had to step over many, or was unlucky
    assert memory.plain_claim(100.2) is PlainClaim.PAST_HEAD
    memory.learn(jobs, 0.1, now=100.2)
    assert memory.plain_claim(100.3) is None
    memory.probed(PlainClaim.IN_HEAD, 0, 102.0)
    memory.forget_plain_claim()
    assert memory.plain_claim(102.1) is None
    assert not memory.is_probe_due(102.1)


def test_claims_look_further_for_a_while_after_two_slow_ones() -> None:
    memory, jobs = ClaimMemory(), [job_at(1)]
    memory.learn(jobs, 0.1, now=100.0)
    assert memory.width(100.0) == 1
    memory.learn(jobs, 0.1, now=100.1)
    assert memory.width(100.2) == 10
    assert memory.width(110.0) == 10
    assert memory.width(110.2) == 1
