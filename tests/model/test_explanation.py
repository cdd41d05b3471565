"""Why a job does not run, from what was seen around it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from trio_graphile._model.explanation import (
    JobFacts,
    JobQueueFacts,
    LockOwner,
    Reason,
    ReasonKind,
    TaskWorker,
    explain,
)
from trio_graphile._model.inspection import JobState, ListedJob
from trio_graphile._model.instants import LAST
from trio_graphile._model.jobs import Job
from trio_graphile._model.listing import Count
from trio_graphile._model.statistics import WorkerPhase

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(minutes=10), NOW + timedelta(minutes=10)
LIVE = TaskWorker(worker_id="w1", phase=WorkerPhase.RUNNING)
DEAD = LockOwner(worker_id="w2", is_registered=True, is_stale=True, last_sign_at=EARLIER, given_back_at=LATER)
ALIVE = LockOwner(worker_id="w1", is_registered=True, last_sign_at=NOW)
UNKNOWN = LockOwner(worker_id="worker-of-node", last_sign_at=EARLIER, given_back_at=LATER)


def facts(state: JobState = JobState.READY, **given: Any) -> JobFacts:
    of_facts = {field.name for field in attrs.fields(JobFacts)}
    row: dict[str, Any] = {"run_at": EARLIER, "created_at": EARLIER, "updated_at": EARLIER}
    row |= {name: value for name, value in given.items() if name not in of_facts}
    job = Job(id=7, payload_json="{}", **({"task_identifier": "send"} | row))
    listed = ListedJob(job=job, state=state, is_available=True, task_id=1)
    around = {"workers": (LIVE,)} | {name: value for name, value in given.items() if name in of_facts}
    return JobFacts(listed=listed, now=NOW, **around)


def kinds(reasons: tuple[Reason, ...]) -> list[ReasonKind]:
    return [reason.kind for reason in reasons]


def worker(name: str = "w1", **rules: Any) -> TaskWorker:
    return TaskWorker(worker_id=name, **rules)


def queue(**given: Any) -> JobQueueFacts:
    return JobQueueFacts(queue_name="mail", **given)


LOCKED, FAILED, SCHEDULED = JobState.LOCKED, JobState.FAILED, JobState.SCHEDULED
LOCK: dict[str, Any] = {"locked_by": "w1", "locked_at": EARLIER}
STOPPING = worker(phase=WorkerPhase.STOPPING)


@pytest.mark.parametrize(
    ("state", "given", "kind", "text"),
    [
        (JobState.READY, {}, "nothing-known", "since 2026-11-29 11:50:00 UTC: the next free slot"),
        (SCHEDULED, {"run_at": LATER}, "not-due", "not due before 2026-11-29 12:10:00 UTC, in 10 min"),
        (SCHEDULED, {"run_at": LAST}, "not-due", "it is never due"),
        (JobState.READY, {"workers": ()}, "no-worker", "no live worker says that it has task send"),
        (
            JobState.READY,
            {"workers": (), "silent_workers": 2},
            "no-worker",
            "; 2 live workers do not say which tasks they have",
        ),
        (JobState.READY, {"workers": (), "silent_workers": 1}, "no-worker", "1 live worker does not say"),
        (JobState.READY, {"workers": (STOPPING,)}, "workers-stopping", "all live workers that have task"),
        (JobState.READY, {"task_identifier": ""}, "task-deleted", "another program deleted its task"),
        (
            JobState.READY,
            {"flags": ("big",), "workers": (worker(forbidden_flags=("big",)),)},
            "flag-forbidden",
            "its flag big is forbidden by worker w1",
        ),
        (
            JobState.READY,
            {"workers": (worker(accepted_flags=("big", "eu")),)},
            "flag-not-accepted",
            "none of the flags big, eu, one of which is needed by worker w1",
        ),
        (
            JobState.READY,
            {"flags": ("big", "eu"), "workers": (worker(allowed_flags=("eu",)),)},
            "flag-not-allowed",
            "its flag big is not allowed by worker w1",
        ),
        (
            JobState.READY,
            {"queue": queue(owner=ALIVE, locked_at=EARLIER, running_id=5)},
            "queue-locked",
            "worker w1 has its queue mail locked for job 5 since 2026-11-29 11:50:00 UTC",
        ),
        (JobState.READY, {"queue": queue(owner=UNKNOWN)}, "queue-locked", "(shows no life)"),
        (
            JobState.READY,
            {"queue": queue(owner=DEAD)},
            "queue-owner-dead",
            "counts as dead, last heard of at 2026-11-29 11:50:00 UTC; a sweep gives it back from 2026-11-29",
        ),
        (
            JobState.READY,
            {"queue": queue(ahead=Count(value=12_000, is_estimate=True), first_ahead_id=3)},
            "behind-in-queue",
            "about 12,000 jobs come before it in its queue mail",
        ),
        (JobState.READY, {"ahead": Count(value=1)}, "behind-in-task", "1 job comes before it"),
        (FAILED, {"attempts": 25}, "no-attempt-left", "25 of 25 are used"),
        (LOCKED, {"owner": ALIVE, **LOCK}, "runs", "worker w1 has it since 2026-11-29 11:50:00 UTC"),
        (LOCKED, {"owner": DEAD, **LOCK}, "owner-dead", "a sweep gives it back from 2026-11-29 12:10:00"),
        (LOCKED, {"owner": UNKNOWN, **LOCK}, "owner-unknown", "worker-of-node, which shows no life"),
        (LOCKED, LOCK, "owner-unknown", "w1, which shows no life"),
        (LOCKED, {}, "owner-unknown", "nobody by name"),
    ],
)
def test_each_reason_is_said_alone_when_nothing_else_is_in_the_way(
    state: JobState, given: dict[str, Any], kind: str, text: str
) -> None:
    [reason] = explain(facts(state, **given))
    assert reason.kind == kind
    assert text in reason.text


@pytest.mark.parametrize(
    ("state", "given", "expected"),
    [
        (
            JobState.READY,
            {
                "workers": (),
                "queue": queue(owner=DEAD, ahead=Count(value=2), first_ahead_id=3),
                "ahead": Count(value=9),
            },
            ["no-worker", "queue-owner-dead", "behind-in-queue", "behind-in-task"],
        ),
        (SCHEDULED, {"run_at": LATER, "workers": ()}, ["not-due", "no-worker"]),
        # What comes first changes until it is due.
        (SCHEDULED, {"run_at": LATER, "queue": queue(owner=ALIVE), "ahead": Count(value=9)}, ["not-due"]),
        (FAILED, {"attempts": 25, "workers": ()}, ["no-attempt-left", "no-worker"]),
        (FAILED, {"attempts": 25, "run_at": LATER, "ahead": Count(value=9)}, ["no-attempt-left"]),
        (LOCKED, {"owner": ALIVE, "workers": (), "queue": queue(owner=ALIVE), **LOCK}, ["runs"]),
        (
            JobState.READY,
            {
                "flags": ("big",),
                "workers": (
                    worker("w1", forbidden_flags=("big",)),
                    worker("w2", allowed_flags=()),
                    worker("w3", forbidden_flags=("big",)),
                ),
            },
            ["flag-forbidden", "flag-not-allowed"],
        ),
        # One that takes it is enough, and one that stops is none.
        (
            JobState.READY,
            {"flags": ("big",), "workers": (worker("w1", forbidden_flags=("big",)), worker("w2"))},
            ["nothing-known"],
        ),
        (
            JobState.READY,
            {"flags": ("big",), "workers": (worker("w1", forbidden_flags=("big",)), STOPPING)},
            ["flag-forbidden"],
        ),
        (JobState.READY, {"workers": (STOPPING, LIVE)}, ["nothing-known"]),
        (JobState.READY, {"workers": (worker(accepted_flags=("a",)),), "flags": ("a",)}, ["nothing-known"]),
        (JobState.READY, {"workers": (worker(allowed_flags=()),)}, ["nothing-known"]),
        (JobState.READY, {"queue": queue()}, ["nothing-known"]),
    ],
)
def test_what_matters_most_comes_first(state: JobState, given: dict[str, Any], expected: list[str]) -> None:
    assert kinds(explain(facts(state, **given))) == expected


def test_reasons_name_what_they_are_about() -> None:
    around = queue(owner=DEAD, running_id=5, ahead=Count(value=2), first_ahead_id=3)
    lock, behind = explain(facts(queue=around))
    assert (lock.job_id, lock.worker_id, lock.queue_name, lock.at) == (5, "w2", "mail", LATER)
    assert (behind.job_id, behind.queue_name) == (3, "mail")


def test_advice_is_given_where_something_can_be_done() -> None:
    [dead] = explain(facts(LOCKED, owner=DEAD, **LOCK))
    assert dead.advice is not None
    assert "sweep" in dead.advice
    [failed] = explain(facts(FAILED, attempts=25))
    assert failed.advice is not None
    assert "attempts 0" in failed.advice


def test_of_workers_with_the_same_rule_the_first_is_named() -> None:
    both = (worker("w1", forbidden_flags=("big",)), worker("w3", forbidden_flags=("big",)))
    [reason] = explain(facts(flags=("big",), workers=both))
    assert reason.worker_id == "w1"
