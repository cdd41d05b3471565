"""What is remembered of claims, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime

from trio_graphile import Job
from trio_graphile._database.claiming.memory import Floor, Front, Plain, Position


def job_at(second: int) -> Job:
    moment = datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)
    return Job(
        id=second,
        task_identifier="a",
        payload_json="{}",
        priority=5,
        run_at=moment,
        created_at=moment,
        updated_at=moment,
    )


def test_a_claim_that_took_long_like_the_one_before_is_remembered_for_ten_times_as_long() -> None:
    floor, jobs = Floor(), [job_at(1), job_at(2)]
    floor.learn(jobs, took=0.1, now=99.0)
    assert floor.at(99.0) is None
    floor.learn(jobs, took=0.1, now=100.0)
    assert floor.at(100.9) == Position(5, jobs[0].run_at)
    assert floor.at(101.1) is None
    floor.learn(jobs, took=60.0, now=200.0)  # perhaps it was not the database that took so long
    assert floor.at(202.9) is not None
    assert floor.at(203.1) is None
    floor.learn(jobs, took=0.1, now=300.0)
    floor.forget()
    assert floor.at(300.1) is None


def test_a_claim_that_was_quick_or_brought_nothing_is_not_remembered() -> None:
    floor = Floor()
    floor.learn([job_at(1)], took=0.01, now=100.0)
    floor.learn([], took=10.0, now=100.0)
    assert floor.at(100.0) is None


def test_a_large_claim_is_slow_when_it_takes_twice_what_a_job_has_taken_at_best() -> None:
    floor, jobs = Floor(), [job_at(1)] * 1000
    floor.learn(jobs, took=0.01, now=100.0)
    floor.learn(jobs, took=0.019, now=100.0)
    assert floor.at(100.0) is None
    floor.learn(jobs, took=0.021, now=100.0)
    assert floor.at(100.0) is None
    floor.learn(jobs, took=0.019, now=100.0)
    floor.learn(jobs, took=0.021, now=100.0)
    assert floor.at(100.0) is None
    floor.learn(jobs, took=0.021, now=100.0)
    assert floor.at(100.0) is not None


def test_the_front_is_looked_at_once_a_second_by_those_who_claim_often() -> None:
    front, jobs = Front(), [job_at(1)]
    assert not front.is_worth_a_look(100.0)
    front.learn([], took=0.001, now=100.0)
    assert not front.is_worth_a_look(100.0)
    front.learn(jobs, took=0.001, now=100.0)
    assert front.is_worth_a_look(100.4)
    assert not front.is_worth_a_look(100.6)
    front.seen(Plain.NONE_QUEUED, 100.4)
    front.learn(jobs, took=0.001, now=101.3)
    assert not front.is_worth_a_look(101.3)
    assert front.is_worth_a_look(101.4)


def test_the_front_is_plain_until_the_next_look_or_a_surprise() -> None:
    front, jobs = Front(), [job_at(1)]
    assert front.plain(100.0) is None
    front.seen(Plain.QUEUES_LOCKED, 100.0)
    assert front.plain(100.9) is Plain.QUEUES_LOCKED
    assert front.plain(101.1) is None
    front.learn(jobs, took=0.01, now=100.1)
    assert front.plain(100.2) is Plain.QUEUES_LOCKED
    front.learn(jobs, took=0.1, now=100.2)  # it had to step over many, or was unlucky
    assert front.plain(100.2) is Plain.QUEUES_LOCKED
    front.learn(jobs, took=0.1, now=100.2)
    assert front.plain(100.3) is None
    front.seen(Plain.NONE_QUEUED, 102.0)
    front.forget()
    assert front.plain(102.1) is None
    assert not front.is_worth_a_look(102.1)


def test_claims_look_further_for_a_while_after_two_slow_ones() -> None:
    front, jobs = Front(), [job_at(1)]
    front.learn(jobs, took=0.1, now=100.0)
    assert front.width(100.0) == 1
    front.learn(jobs, took=0.1, now=100.1)
    assert front.width(100.2) == 10
    assert front.width(110.0) == 10
    assert front.width(110.2) == 1
