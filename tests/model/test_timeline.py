"""What has happened to a job, and what is to come."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile._model.inspection import JobState, ListedJob
from trio_graphile._model.instants import FIRST, LAST
from trio_graphile._model.jobs import SMALLINT, Job
from trio_graphile._model.timeline import MOST_LISTED, TimelineEntry, TimelineKind, timeline

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
READY, SCHEDULED, LOCKED, FAILED = JobState.READY, JobState.SCHEDULED, JobState.LOCKED, JobState.FAILED


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def listed(state: JobState = READY, **given: Any) -> ListedJob:
    row = {"run_at": NOW - seconds(60), "created_at": NOW - seconds(3600), "updated_at": NOW, **given}
    job = Job(id=1, task_identifier="send", payload_json="{}", **row)
    return ListedJob(job=job, state=state, is_available=True, task_id=1)


def kinds(entries: tuple[TimelineEntry, ...]) -> list[str]:
    return [entry.kind.value for entry in entries]


def to_come(entries: tuple[TimelineEntry, ...], kind: TimelineKind) -> list[TimelineEntry]:
    return [entry for entry in entries if entry.kind is kind]


def test_a_new_job_has_all_attempts_before_it() -> None:
    entries = timeline(listed(max_attempts=4), NOW)
    assert kinds(entries) == ["added", "attempt", "attempt", "attempt", "attempt", "gives-up"]
    waits = [0, math.exp(1), math.exp(1) + math.exp(2), math.exp(1) + math.exp(2) + math.exp(3)]
    assert [entry.at for entry in to_come(entries, TimelineKind.ATTEMPT)] == [
        NOW + seconds(wait) for wait in waits
    ]
    assert entries[-1].at == NOW + seconds(waits[-1])
    assert [entry.is_to_come for entry in entries] == [False] + [True] * 5


def test_a_scheduled_job_is_tried_first_at_its_time() -> None:
    entries = timeline(listed(SCHEDULED, run_at=NOW + seconds(500), max_attempts=2), NOW)
    first, second = to_come(entries, TimelineKind.ATTEMPT)
    assert first.at == NOW + seconds(500)
    assert second.at == NOW + seconds(500 + math.exp(1))


def test_a_job_that_failed_says_about_when() -> None:
    job = listed(SCHEDULED, attempts=3, max_attempts=5, last_error="no", run_at=NOW + seconds(5))
    added, tried, *_ = timeline(job, NOW)
    assert added.at == NOW - seconds(3600)
    assert tried.text == "3 of 5 attempts used, failed last"
    once = timeline(listed(SCHEDULED, attempts=1, max_attempts=1, last_error="no", run_at=NOW), NOW)
    assert once[1].text == "1 of 1 attempt used, failed last"
    assert tried.at == NOW + seconds(5 - math.exp(3))
    assert tried.is_about


@pytest.mark.parametrize(
    "run_at",
    [
        NOW + seconds(40_000),  # would have failed in the future
        NOW - seconds(3600),  # before it was added
        LAST,
        FIRST,
    ],
)
def test_a_job_that_was_rescheduled_does_not_say_when_it_failed(run_at: datetime) -> None:
    _, tried, *_ = timeline(listed(attempts=3, last_error="no", run_at=run_at), NOW)
    assert tried.kind is TimelineKind.TRIED
    assert tried.at is None
    assert not tried.is_about


@pytest.mark.parametrize("rest", ["", " (2 in a row)", " (while it stopped)"])
def test_a_job_that_was_given_back_says_so(rest: str) -> None:
    job = listed(attempts=0, last_error=f"Job recovered after worker interruption{rest}")
    _, tried, *_ = timeline(job, NOW)
    assert "given back by a worker" in tried.text
    assert tried.at is None


def test_a_job_that_was_replaced_says_how_often() -> None:
    assert timeline(listed(revision=1), NOW)[1].text == "added again under its key once"
    assert timeline(listed(revision=1200), NOW)[1].text == "added again under its key 1,200 times"


def test_a_job_that_runs_would_be_tried_again_after_its_delay() -> None:
    job = listed(LOCKED, attempts=2, max_attempts=3, locked_by="w1", locked_at=NOW - seconds(9))
    entries = timeline(job, NOW)
    assert kinds(entries) == ["added", "tried", "locked", "attempt", "gives-up"]
    assert entries[1].text == "1 of 3 attempts used, no failure recorded"
    assert entries[2].text == "taken for attempt 2 by worker w1"
    assert entries[2].at == NOW - seconds(9)
    assert entries[3].at == NOW + seconds(math.exp(2))
    assert entries[3].attempt == 3


def test_a_job_at_its_last_attempt_gives_up_if_that_fails() -> None:
    entries = timeline(listed(LOCKED, attempts=3, max_attempts=3, locked_by="w1", locked_at=NOW), NOW)
    assert entries[-1].text == "gives up if this attempt fails"
    assert to_come(entries, TimelineKind.ATTEMPT) == []


def test_a_job_that_failed_for_good_has_nothing_before_it() -> None:
    entries = timeline(listed(FAILED, attempts=25, last_error="no"), NOW)
    assert kinds(entries) == ["added", "tried", "gave-up"]


def test_a_job_that_is_never_due_is_tried_never() -> None:
    entries = timeline(listed(SCHEDULED, run_at=LAST), NOW)
    assert kinds(entries) == ["added", "attempt"]
    assert entries[-1].at == LAST


def test_of_very_many_attempts_some_are_listed_and_the_last_is_named() -> None:
    entries = timeline(listed(max_attempts=32_767), NOW)
    assert len(to_come(entries, TimelineKind.ATTEMPT)) == MOST_LISTED
    [more] = to_come(entries, TimelineKind.MORE)
    assert more.text == f"and {32_767 - MOST_LISTED:,} more, the last of them"
    wait = sum(math.exp(min(failed, 10)) for failed in range(1, 32_767))
    assert more.at is not None
    assert abs((more.at - NOW).total_seconds() - wait) < 0.01
    assert entries[-1].at == more.at


SMALLINTS = st.integers(SMALLINT.start, SMALLINT.stop - 1)
TIMES = st.datetimes(timezones=st.just(UTC)) | st.sampled_from([FIRST, LAST])
ROWS = st.fixed_dictionaries(
    {
        "attempts": SMALLINTS,
        "max_attempts": SMALLINTS,
        "run_at": TIMES,
        "created_at": TIMES,
        "last_error": st.none() | st.just("no"),
    }
)


@given(st.sampled_from(JobState), ROWS, TIMES)
def test_any_row_has_a_timeline(state: JobState, row: dict[str, Any], now: datetime) -> None:
    job = listed(state, **row)
    entries = timeline(job, now)
    assert len(entries) <= MOST_LISTED + 7
    times = [entry.at for entry in entries if entry.is_to_come and entry.at is not None]
    assert times == sorted(times)
    assert all(time >= now for time in times)


@given(st.integers(-20, 60), st.integers(1, 60))
def test_each_attempt_follows_the_one_before_by_its_delay(attempts: int, left: int) -> None:
    entries = timeline(listed(attempts=attempts, max_attempts=attempts + left), NOW)
    listed_ones = to_come(entries, TimelineKind.ATTEMPT)
    more = to_come(entries, TimelineKind.MORE)
    assert len(listed_ones) + max(0, left - MOST_LISTED) == left
    expected = NOW
    for number in range(attempts + 1, attempts + left + 1):
        [at] = [entry.at for entry in listed_ones + more if entry.attempt == number] or [None]
        if at is not None:
            assert abs((at - expected).total_seconds()) < 0.001
        expected += seconds(math.exp(max(0, min(number, 10))))
