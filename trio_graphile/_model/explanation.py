"""Why a job does not run: facts about the job and its surroundings, and the reasons that follow."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from datetime import datetime
from typing import assert_never

import attrs

from trio_graphile._model.diagnosis import duration
from trio_graphile._model.inspection import JobState, ListedJob
from trio_graphile._model.instants import LAST, shown
from trio_graphile._model.jobs import Job
from trio_graphile._model.listing import Count
from trio_graphile._model.statistics import WorkerPhase

_NONE = Count(value=0)


@attrs.frozen(kw_only=True)
class TaskWorker:
    """A live worker that advertises the task of the job."""

    worker_id: str
    phase: WorkerPhase | None = None
    """None if the worker does not report it."""
    forbidden_flags: tuple[str, ...] = ()
    """Empty if the worker forbids none, or does not report it."""
    accepted_flags: tuple[str, ...] | None = None
    """None if the worker has no such rule, or does not report it."""
    allowed_flags: tuple[str, ...] | None = None
    """None if the worker has no such rule, or does not report it."""


@attrs.frozen(kw_only=True)
class LockOwner:
    """The worker that has a job or a queue locked."""

    worker_id: str
    is_registered: bool = False
    """Whether the worker sends heartbeats; workers of Node never do, nor do ours without recovery."""
    is_stale: bool = False
    """Whether its last heartbeat is so old that it counts as dead."""
    last_sign_at: datetime | None = None
    """Its last heartbeat; for an unregistered worker, when it took or renewed the newest of its locks."""
    given_back_at: datetime | None = None
    """When a sweep gives back its jobs, if it shows no further sign of life."""


@attrs.frozen(kw_only=True)
class JobQueueFacts:
    """Facts about the named queue of a job."""

    queue_name: str
    locked_at: datetime | None = None
    owner: LockOwner | None = None
    """The worker that has the queue locked."""
    running_id: int | None = None
    """The locked job of the queue; None if there is none, or none was found in time."""
    ahead: Count = _NONE
    """How many due jobs of the queue come before this one."""
    first_ahead_id: int | None = None
    """The first of these."""


@attrs.frozen(kw_only=True)
class JobFacts:
    """Facts about a job and everything that may stand in its way, at one time."""

    listed: ListedJob
    now: datetime
    """The database's time."""
    workers: tuple[TaskWorker, ...] = ()
    """The live workers that advertise its task."""
    silent_workers: int = 0
    """How many live workers advertise no tasks at all: those of other kinds."""
    queue: JobQueueFacts | None = None
    """Its named queue, if it has one."""
    ahead: Count = _NONE
    """How many due jobs of its task, outside of named queues, come before it by priority, time and id."""
    owner: LockOwner | None = None
    """The worker that has the job locked."""


class ReasonKind(enum.StrEnum):
    """The kinds of reasons why a job waits."""

    RUNS = "runs"
    """A live worker runs the job."""
    OWNER_DEAD = "owner-dead"
    """The worker that has the job is dead, and a sweep gives the job back."""
    OWNER_UNKNOWN = "owner-unknown"
    """The worker that has the job sends no heartbeats, as workers of Node never do."""
    NO_ATTEMPT_LEFT = "no-attempt-left"
    NOT_DUE = "not-due"
    TASK_DELETED = "task-deleted"
    NO_WORKER = "no-worker"
    """No live worker advertises its task."""
    WORKERS_STOPPING = "workers-stopping"
    """All workers that have its task are stopping."""
    FLAG_FORBIDDEN = "flag-forbidden"
    FLAG_NOT_ACCEPTED = "flag-not-accepted"
    FLAG_NOT_ALLOWED = "flag-not-allowed"
    QUEUE_LOCKED = "queue-locked"
    """Another job of its queue runs."""
    QUEUE_OWNER_DEAD = "queue-owner-dead"
    """The worker that has its queue is dead, and a sweep gives the queue back."""
    BEHIND_IN_QUEUE = "behind-in-queue"
    BEHIND_IN_TASK = "behind-in-task"
    NOTHING_KNOWN = "nothing-known"
    """The job can run as soon as a slot is free."""


@attrs.frozen(kw_only=True)
class Reason:
    """One reason why a job waits."""

    kind: ReasonKind
    text: str
    """A sentence about the reason, without its capital and full stop."""
    advice: str | None = None
    """What to do about the reason, if anything."""
    job_id: int | None = None
    """Another job that the reason is about, for a link; likewise the next fields."""
    worker_id: str | None = None
    queue_name: str | None = None
    at: datetime | None = None
    """When the reason ends by itself, if that is known."""


def explain(facts: JobFacts) -> tuple[Reason, ...]:
    """Return the reasons why a job waits, the most important first; there is at least one."""
    match facts.listed.state:
        case JobState.LOCKED:
            reasons = [_lock(facts)]
        case JobState.FAILED:
            reasons = [_no_attempt(facts.listed.job), *_nobody(facts)]
        case JobState.SCHEDULED:
            reasons = [_not_due(facts), *_nobody(facts)]
        case JobState.READY:
            reasons = [*_nobody(facts), *_others(facts)] or [_nothing(facts.listed.job)]
        case _:
            assert_never(facts.listed.state)
    return tuple(reasons)


def _lock(facts: JobFacts) -> Reason:
    job, owner = facts.listed.job, facts.owner
    since = "" if job.locked_at is None else f" since {shown(job.locked_at)}"
    if owner is None or not (owner.is_registered or owner.is_stale):
        who = job.locked_by or "nobody by name" if owner is None else owner.worker_id
        return Reason(
            kind=ReasonKind.OWNER_UNKNOWN,
            text=f"{who}, which shows no life (workers of Node never do), has it{since}{_back(owner)}",
            advice="if you know that this worker is gone, unlock what it holds",
            worker_id=job.locked_by,
            at=None if owner is None else owner.given_back_at,
        )
    if owner.is_stale:
        return Reason(
            kind=ReasonKind.OWNER_DEAD,
            text=f"worker {owner.worker_id}, which has it{since}, {_death(owner)}{_back(owner)}",
            advice="sweep stale workers, or let a live worker do so",
            worker_id=owner.worker_id,
            at=owner.given_back_at,
        )
    return Reason(
        kind=ReasonKind.RUNS,
        text=f"worker {owner.worker_id} has it{since}: it runs there, or is about to",
        worker_id=owner.worker_id,
    )


def _death(owner: LockOwner) -> str:
    sign = "" if owner.last_sign_at is None else f", last heard of at {shown(owner.last_sign_at)}"
    return f"counts as dead{sign}"


def _back(owner: LockOwner | None) -> str:
    if owner is None or owner.given_back_at is None:
        return ""
    return f"; a sweep gives it back from {shown(owner.given_back_at)} on"


def _no_attempt(job: Job) -> Reason:
    return Reason(
        kind=ReasonKind.NO_ATTEMPT_LEFT,
        text=f"no attempt is left: {job.attempts} of {job.max_attempts} are used",
        advice="reschedule it for now with attempts 0, once what made it fail is mended",
    )


def _not_due(facts: JobFacts) -> Reason:
    run_at = facts.listed.job.run_at
    if run_at == LAST:
        return Reason(kind=ReasonKind.NOT_DUE, text="it is never due", advice="reschedule it")
    wait = duration(max(0.0, (run_at - facts.now).total_seconds()))
    return Reason(
        kind=ReasonKind.NOT_DUE,
        text=f"it is not due before {shown(run_at)}, in {wait}",
        advice="reschedule it if that is too late",
        at=run_at,
    )


def _nobody(facts: JobFacts) -> Iterator[Reason]:
    """Yield the reason why no live worker takes the job, if none does."""
    task = facts.listed.job.task_identifier
    others = _silent(facts.silent_workers)
    if not task:
        yield Reason(
            kind=ReasonKind.TASK_DELETED,
            text="another program deleted its task from the database, so no worker can have it",
            advice="complete it, and add it anew",
        )
    elif not facts.workers:
        yield Reason(
            kind=ReasonKind.NO_WORKER,
            text=f"no live worker says that it has task {task}{others}",
            advice="start a worker with this task",
        )
    elif not (takers := [worker for worker in facts.workers if worker.phase not in _ENDING]):
        yield Reason(
            kind=ReasonKind.WORKERS_STOPPING,
            text=f"all live workers that have task {task} are stopping{others}",
            advice="start a worker with this task",
            worker_id=facts.workers[0].worker_id,
        )
    else:
        refusals = [_refusal(worker, facts.listed.job.flags) for worker in takers]
        if None not in refusals:
            yield from {one.kind: one for one in reversed(refusals) if one is not None}.values()


_ENDING = (WorkerPhase.STOPPING, WorkerPhase.NOT_RUNNING)


def _silent(count: int) -> str:
    if not count:
        return ""
    return f"; {count} live {'worker does' if count == 1 else 'workers do'} not say which tasks they have"


def _refusal(worker: TaskWorker, flags: tuple[str, ...]) -> Reason | None:
    """Return the rule by which a worker refuses a job with these flags."""
    forbidden = [flag for flag in flags if flag in worker.forbidden_flags]
    if forbidden:
        kind, text = ReasonKind.FLAG_FORBIDDEN, f"its flag {forbidden[0]} is forbidden"
    elif worker.accepted_flags is not None and not set(flags) & set(worker.accepted_flags):
        kind = ReasonKind.FLAG_NOT_ACCEPTED
        text = f"it has none of the flags {', '.join(worker.accepted_flags)}, one of which is needed"
    elif worker.allowed_flags is not None and (strange := set(flags) - set(worker.allowed_flags)):
        kind, text = ReasonKind.FLAG_NOT_ALLOWED, f"its flag {min(strange)} is not allowed"
    else:
        return None
    return Reason(
        kind=kind,
        text=f"{text} by worker {worker.worker_id}, and no other that has its task takes it",
        advice="start a worker with other rules, or add the job anew with other flags",
        worker_id=worker.worker_id,
    )


def _others(facts: JobFacts) -> Iterator[Reason]:
    """Yield the reason that other jobs come first."""
    if facts.queue is not None:
        if facts.queue.owner is not None:
            yield _queue_lock(facts.queue, facts.queue.owner)
        if facts.queue.ahead.value:
            yield Reason(
                kind=ReasonKind.BEHIND_IN_QUEUE,
                text=f"{_come(facts.queue.ahead)} before it in its queue {facts.queue.queue_name}",
                job_id=facts.queue.first_ahead_id,
                queue_name=facts.queue.queue_name,
            )
    if facts.ahead.value:
        yield Reason(
            kind=ReasonKind.BEHIND_IN_TASK,
            text=f"{_come(facts.ahead)} before it among those of its task that are due",
            advice="if this grows, start more workers with this task",
        )


def _queue_lock(queue: JobQueueFacts, owner: LockOwner) -> Reason:
    what = "" if queue.running_id is None else f" for job {queue.running_id}"
    since = "" if queue.locked_at is None else f" since {shown(queue.locked_at)}"
    who = owner.worker_id if owner.is_registered or owner.is_stale else f"{owner.worker_id} (shows no life)"
    text = f"worker {who} has its queue {queue.queue_name} locked{what}{since}"
    return Reason(
        kind=ReasonKind.QUEUE_OWNER_DEAD if owner.is_stale else ReasonKind.QUEUE_LOCKED,
        text=f"{text}, and {_death(owner)}{_back(owner)}" if owner.is_stale else text,
        advice="sweep stale workers, or let a live worker do so" if owner.is_stale else None,
        job_id=queue.running_id,
        worker_id=owner.worker_id,
        queue_name=queue.queue_name,
        at=owner.given_back_at if owner.is_stale else None,
    )


def _nothing(job: Job) -> Reason:
    return Reason(
        kind=ReasonKind.NOTHING_KNOWN,
        text=f"nothing that is known stands in its way since {shown(job.run_at)}: "
        "the next free slot of a worker takes it",
    )


def _come(count: Count) -> str:
    about = "about " if count.is_estimate else ""
    return f"{about}{count.value:,} {'job comes' if count.value == 1 else 'jobs come'}"
