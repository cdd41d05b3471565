"""What the tables must look like after each step of a fleet: a model in plain Python, without a clock.

The model knows claims where the tables know ids, attempts and names: each claim is an object of its own, and
a row is held by exactly one, or none. So it can say whether a statement was fenced rightly.

Time is counted in minutes that the test lets pass. A time of a job is one that the test chose, or the
database's own clock (`AsOf`), which the test looks up in the row and writes back here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, assert_never

import attrs

from trio_graphile import Job, JobKeyMode, JobSpec
from trio_graphile._database.dead_jobs import MOST_INTERRUPTIONS

TASKS = ("a", "b")
"""What our workers can do. Jobs of other tasks are left alone."""
FAR = datetime(2100, 1, 1, tzinfo=UTC)
"""When jobs run that are not due: no example takes that long."""
SILENCE = 5
RESILIENT_SILENCE = 15
ABANDONMENT = 240
RESILIENT = "infrastructure_resilient"
OUR_PREFIX = "trio_graphile_"

_RECOVERED = "Job recovered after worker interruption"

Ending: TypeAlias = Literal["complete", "fail", "fail later", "fail for good", "return", "snooze"]
LATER = 60.0
"""How long a job waits whose handler says so, in seconds."""


@attrs.frozen
class AsOf:
    """A time that the database sets by its own clock: so many seconds after the statement."""

    delay: float
    factor: float = 1.0
    """Up to how many times as long it may be: the database draws it."""


@attrs.define(eq=False)
class Worker:
    """A worker as it sees itself. One that renews is ours; Node's neither register nor renew."""

    id: str
    renews: bool
    known: dict[int, Claim] = attrs.field(factory=dict, repr=False)
    """The last claim of each job that it knows of."""
    running: list[Claim] = attrs.field(factory=list, repr=False)
    """All claims whose outcome it has not written, as far as it knows."""
    alive: bool = True
    slept: bool = False
    """Whether it let time pass without renewing its locks: then others may have taken its jobs."""


@attrs.define(eq=False)
class Claim:
    """One claim of one job by one worker."""

    worker: Worker
    job: Job
    """The job as claimed."""
    sound: bool = True
    """Whether the worker runs the job and may rely on being the only one."""


@attrs.define(eq=False, kw_only=True)
class Row:
    """A job that must stand in the table."""

    id: int
    task: str
    payload: Any
    queue: str | None
    key: str | None
    flags: frozenset[str]
    priority: int
    run_at: datetime | AsOf
    max_attempts: int
    attempts: int = 0
    last_error: str | None = None
    revision: int = 0
    holder: Claim | None = None
    lock_age: int = 0
    """Minutes since the lock was taken or renewed."""
    detached: bool = False
    """Whether it was replaced or removed through its key while it ran or was spent: it never runs again."""

    @property
    def is_available(self) -> bool:
        return self.holder is None and self.attempts < self.max_attempts

    @property
    def is_due(self) -> bool:
        return self.time < FAR

    @property
    def is_in_hand(self) -> bool:
        """Whether clients must leave it alone: a worker holds it, and not for an impossibly long time."""
        return self.holder is not None and self.lock_age <= ABANDONMENT

    @property
    def time(self) -> datetime:
        assert isinstance(self.run_at, datetime), "the table was not looked at in between"
        return self.run_at

    @property
    def order(self) -> tuple[int, datetime]:
        return self.priority, self.time


@attrs.frozen
class Request:
    """Somebody wants a worker to end a job."""

    worker: Worker
    ending: Ending


@attrs.define(eq=False)
class QueueLock:
    worker: Worker
    age: int = 0


@attrs.define(eq=False)
class Fleet:
    """All tables, and all workers, dead ones included."""

    jobs: dict[int, Row] = attrs.field(factory=dict)
    queues: dict[str, QueueLock] = attrs.field(factory=dict)
    """The queues that are locked."""
    silence: dict[str, int] = attrs.field(factory=dict)
    """The registered workers with the minutes since their last heartbeats."""
    requests: dict[int, Request] = attrs.field(factory=dict)
    """Who is asked to interrupt which job."""
    last_id: int = 0
    added: int = 0
    completed: int = 0
    removed: int = 0

    @property
    def has_locks(self) -> bool:
        return bool(self.queues or self._rows_of())

    @property
    def has_old_locks(self) -> bool:
        return any(row.lock_age > ABANDONMENT for row in self._rows_of()) or any(
            lock.age > ABANDONMENT for lock in self.queues.values()
        )

    @property
    def held_keys(self) -> list[str]:
        return sorted(row.key for row in self._rows_of() if row.key is not None)

    @property
    def somebody_is_silent(self) -> bool:
        ages = [row.lock_age for row in self._rows_of()] + [lock.age for lock in self.queues.values()]
        return any(age > SILENCE for age in [*ages, *self.silence.values()])

    # --- what clients do ------------------------------------------------------------------------

    def add(self, task: str, payload: Any, spec: JobSpec, answer: Job) -> None:
        """Add a job; `answer` says under which id and, where the clock decides, when."""
        row = self.under_key(spec.job_key)
        if row is not None and spec.job_key_mode is JobKeyMode.UNSAFE_DEDUPE:
            row.revision += 1
        elif row is not None and row.is_available:
            self._replace(row, task, payload, spec)
        else:
            if row is not None:
                detach(row)
            assert answer.id > self.last_id, "an id was used again"
            row = self.jobs[answer.id] = _new_row(answer.id, task, payload, spec)
            self.added += 1
        assert answer.id == row.id

    def _replace(self, row: Row, task: str, payload: Any, spec: JobSpec) -> None:
        both_lists = isinstance(row.payload, list) and isinstance(payload, list)
        new = _new_row(row.id, task, row.payload + payload if both_lists else payload, spec)
        new.revision = row.revision + 1
        if spec.job_key_mode is JobKeyMode.PRESERVE_RUN_AT and row.attempts == 0:
            new.run_at = row.run_at
        self.jobs[row.id] = new

    def under_key(self, key: str | None) -> Row | None:
        found = [row for row in self.jobs.values() if row.key == key is not None]
        assert len(found) <= 1
        return found[0] if found else None

    def remove(self, key: str) -> int | None:
        """Return the id of the job that had the key."""
        row = self.under_key(key)
        if row is None:
            return None
        if row.is_in_hand:
            detach(row)
        else:
            self._abandon(row)
            del self.jobs[row.id]
            self.removed += 1
        return row.id

    def complete_as_client(self, ids: Collection[int]) -> set[int]:
        """Return the ids of the jobs that were there to be completed."""
        rows = self._change_as_client(ids)
        for row in rows:
            del self.jobs[row.id]
            self.completed += 1
        return {row.id for row in rows}

    def fail_as_client(self, ids: Collection[int], reason: str) -> set[int]:
        rows = self._change_as_client(ids)
        for row in rows:
            row.attempts, row.last_error = row.max_attempts, reason
        return {row.id for row in rows}

    def cancel(self, ids: Collection[int], ending: Ending, reason: str) -> tuple[set[int], set[int]]:
        """Return the ids of the jobs whose workers are asked, and of those that have failed at once."""
        asked = {row.id: row.holder.worker for row in self._rows_of() if row.id in ids and row.holder}
        asked = {id_: worker for id_, worker in asked.items() if worker.renews}
        if asked:
            holders = {row.id: row.holder.worker for row in self._rows_of() if row.holder}
            self.requests = {id_: r for id_, r in self.requests.items() if holders.get(id_) is r.worker}
        for id_, worker in asked.items():
            self.requests[id_] = Request(worker, ending)
        rest = {*ids} - asked.keys()
        return {*asked}, self.fail_as_client(rest, reason) if ending == "fail for good" else set()

    def reschedule(self, ids: Collection[int], **changes: Any) -> set[int]:
        """Whoever gives attempts to a job that had none left wants it to run, a detached one, too."""
        rows = self._change_as_client(ids)
        for row in rows:
            for name, value in changes.items():
                setattr(row, name, value)
            row.detached = row.detached and not row.is_available
        return {row.id for row in rows}

    def _change_as_client(self, ids: Collection[int]) -> list[Row]:
        rows = [self.jobs[id_] for id_ in ids if id_ in self.jobs and not self.jobs[id_].is_in_hand]
        for row in rows:
            self._abandon(row)
        return rows

    def _abandon(self, row: Row) -> None:
        """Take a job from a holder that had it for too long, and its queue."""
        if row.holder is None:
            return
        lock = self.queues.get(row.queue or "")
        if lock is not None and lock.worker is row.holder.worker and lock.age > ABANDONMENT:
            del self.queues[row.queue or ""]
        _take_away(row)

    def force_unlock(self, ids: Collection[str]) -> None:
        """The one thing that takes jobs from workers that live and are awake."""
        for row in self.jobs.values():
            if row.holder is not None and row.holder.worker.id in ids:
                row.holder.sound = False
                row.holder = None
        self.queues = {name: lock for name, lock in self.queues.items() if lock.worker.id not in ids}

    # --- what a worker does ---------------------------------------------------------------------

    def claimable(self, forbidden: Collection[str]) -> list[Row]:
        """Return what may be claimed, best first: of a queue the next job, and none while it is locked."""
        rows: list[Row] = []
        queues: set[str | None] = {*self.queues}
        for row in sorted(self.jobs.values(), key=lambda row: (*row.order, row.id)):
            wanted = row.is_available and row.is_due and row.task in TASKS and not row.flags & {*forbidden}
            if wanted and row.queue not in queues:
                rows.append(row)
                queues |= {row.queue} - {None}
        return rows

    def claim(
        self, worker: Worker, limit: int, forbidden: Collection[str], answer: list[Job], *, lost: bool
    ) -> None:
        """Claim the best jobs. If the answer was lost, the worker knows nothing of them.

        Unless it knows the very same attempt from before: then to the fence they are one claim.
        """
        claimable = self.claimable(forbidden)
        rows = [self.jobs[job.id] for job in answer]
        assert len({row.id for row in rows}) == len(rows), "claimed twice at once"
        assert {row.id for row in rows} <= {row.id for row in claimable}, "claimed what is not to be had"
        assert [row.order for row in rows] == [row.order for row in claimable[:limit]], "not the best first"
        for row, job in zip(rows, answer, strict=True):
            assert not row.detached, "a job that was replaced or removed came back"
            row.attempts += 1
            row.holder, row.lock_age = Claim(worker, job, sound=not lost), 0
            if row.queue is not None:
                self.queues[row.queue] = QueueLock(worker)
            if not lost:
                _receive(worker, row.holder)
            elif (older := worker.known.get(row.id)) is not None and older.job.attempts == job.attempts:
                row.holder = older

    def end(self, claims: Sequence[Claim], ending: Ending, error: str, payload: Any = None) -> set[int]:
        """Write outcomes, with a new payload if there is one; return whose jobs were the worker's to end."""
        ids = {claim.job.id for claim in claims if self.is_held_by(claim)}
        for row in [self.jobs[id_] for id_ in ids]:
            self._end(row, ending, error)
            if payload is not None:
                row.payload = payload
            self._let_go(row)
        return ids

    def _end(self, row: Row, ending: Ending, error: str) -> None:
        match ending:
            case "complete":
                del self.jobs[row.id]
                self.completed += 1
            case "fail" | "fail for good":
                row.last_error, row.run_at = error, AsOf(math.exp(min(row.attempts, 10)))
                if ending == "fail for good":
                    row.attempts = row.max_attempts
            case "fail later":
                row.last_error, row.run_at = error, AsOf(LATER)
            case "return" | "snooze":
                row.attempts -= not row.detached
                if row.detached and row.last_error is None:
                    row.last_error = "Replaced or removed through its key while it ran"
                if ending == "snooze":
                    row.run_at = AsOf(LATER)
            case _:
                assert_never(ending)

    def is_held_by(self, claim: Claim) -> bool:
        """Of a job that was detached, all claims of one worker are one to the fence: it never runs again."""
        row = self.jobs.get(claim.job.id)
        if row is None or row.holder is None:
            return False
        is_any_of_ours = row.detached and claim.job.key is not None and row.holder.worker is claim.worker
        return row.holder is claim or is_any_of_ours

    def _let_go(self, row: Row) -> None:
        assert row.holder is not None
        if row.queue in self.queues and self.queues[row.queue].worker is row.holder.worker:
            del self.queues[row.queue]
        row.holder.sound = False
        row.holder = None

    def reconcile(self, worker: Worker) -> set[int]:
        """Give back what the worker holds and does not know of; return the ids."""
        known = {claim.job.id for claim in worker.known.values() if self.is_held_by(claim)}
        rows = [row for row in self._rows_of([worker.id]) if row.id not in known]
        for row in rows:
            row.attempts -= not row.detached
            row.holder = None
        busy = {row.queue for row in self._rows_of([worker.id])}
        for name in [name for name, lock in self.queues.items() if lock.worker is worker]:
            if name not in busy:
                del self.queues[name]
        return {row.id for row in rows}

    def renew(self, worker: Worker) -> tuple[set[int], set[int]]:
        """Make locks fresh; return which jobs are lost and which are detached. The worker drops lost ones."""
        held = [self.jobs[claim.job.id] for claim in worker.known.values() if self.is_held_by(claim)]
        for row in held:
            row.lock_age = 0
        for lock in self.queues.values():
            if lock.worker is worker:
                lock.age = 0
        lost = worker.known.keys() - {row.id for row in held}
        for id_ in lost:
            forget(worker, worker.known[id_])
        worker.slept = False
        return set(lost), {row.id for row in held if row.detached}

    # --- what time and death do -----------------------------------------------------------------

    def kill(self, worker: Worker) -> None:
        """End a worker that can do nothing about it any more."""
        worker.alive = False
        for claim in worker.running:
            claim.sound = False
        worker.known.clear()
        worker.running.clear()

    def pass_time(self, minutes: int) -> None:
        for row in self.jobs.values():
            row.lock_age += minutes
        for lock in self.queues.values():
            lock.age += minutes
        self.silence = {id_: silence + minutes for id_, silence in self.silence.items()}

    def dead(self) -> tuple[set[str], set[str]]:
        """Return the ids of those who are taken for dead: registered ones, and others that hold locks."""
        resilient = {row.holder.worker.id for row in self._rows_of() if row.holder and RESILIENT in row.flags}
        registered = {
            id_
            for id_, silence in self.silence.items()
            if silence > (RESILIENT_SILENCE if id_ in resilient else SILENCE)
        }
        youngest: dict[str, int] = {}
        locks = [(row.holder.worker.id, row.lock_age) for row in self._rows_of() if row.holder]
        for id_, age in locks + [(lock.worker.id, lock.age) for lock in self.queues.values()]:
            youngest[id_] = min(age, youngest.get(id_, age))
        others = {
            id_
            for id_, age in youngest.items()
            if id_ not in self.silence and age > (SILENCE if id_.startswith(OUR_PREFIX) else ABANDONMENT)
        }
        return registered, others

    def sweep(self, delay: float) -> int:
        """Take their jobs from the dead and forget them; return how many jobs."""
        dead = set().union(*self.dead())
        rows = self._rows_of(dead)
        for row in rows:
            times = 1 + _interruptions(row.last_error)
            kills = times >= MOST_INTERRUPTIONS
            row.attempts -= not (row.detached or kills)
            row.last_error = _RECOVERED + (f" ({times} in a row)" if times > 1 else "")
            row.run_at = AsOf(math.exp(min(row.attempts, 10)), factor=2.0) if kills else AsOf(delay)
            _take_away(row)
        self.queues = {name: lock for name, lock in self.queues.items() if lock.worker.id not in dead}
        self.silence = {id_: silence for id_, silence in self.silence.items() if id_ not in dead}
        return len(rows)

    def reset(self) -> tuple[int, int]:
        """Release all locks that are older than any job's life; return how many jobs and queues."""
        rows = [row for row in self._rows_of() if row.lock_age > ABANDONMENT]
        for row in rows:
            row.run_at = AsOf(0)
            _take_away(row)
        old = [name for name, lock in self.queues.items() if lock.age > ABANDONMENT]
        for name in old:
            del self.queues[name]
        return len(rows), len(old)

    def _rows_of(self, ids: Collection[str] | None = None) -> list[Row]:
        return [
            row
            for row in self.jobs.values()
            if row.holder is not None and (ids is None or row.holder.worker.id in ids)
        ]

    # --- what always holds ----------------------------------------------------------------------

    def check(self, workers: Iterable[Worker]) -> None:
        """Whoever runs a job and is awake is the only one, and so is its job in its queue."""
        sound = [claim for worker in workers for claim in worker.running if claim.sound]
        for claim in sound:
            assert self.is_held_by(claim), "a job was taken from a worker that lives"
        queues = [(self.jobs[claim.job.id].queue, claim.worker) for claim in sound]
        named = [(name, worker) for name, worker in queues if name is not None]
        assert len({name for name, _ in named}) == len(named), "two jobs of one queue run at once"
        for name, worker in named:
            assert name in self.queues, "a queue is free while its job runs"
            assert self.queues[name].worker is worker
        assert all(row.attempts >= 0 for row in self.jobs.values())
        assert self.added == self.completed + self.removed + len(self.jobs), "a job was lost"


def _new_row(id_: int, task: str, payload: Any, spec: JobSpec) -> Row:
    return Row(
        id=id_,
        task=task,
        payload=payload,
        queue=spec.queue_name,
        key=spec.job_key,
        flags=frozenset(spec.flags or ()),
        priority=spec.priority or 0,
        run_at=AsOf(0) if spec.run_at is None else spec.run_at,
        max_attempts=spec.max_attempts or 25,
    )


def detach(row: Row) -> None:
    row.key, row.attempts, row.detached = None, row.max_attempts, True


def forget(worker: Worker, claim: Claim) -> None:
    """The worker is done with a claim, whatever the tables say."""
    worker.running.remove(claim)
    if worker.known.get(claim.job.id) is claim:
        del worker.known[claim.job.id]


def _receive(worker: Worker, claim: Claim) -> None:
    """The worker runs the job.

    It may run it already, if the job was taken from it by force. Two claims of one worker with the same
    attempt, or of a job with a key, are one to the fence: the older is left out here.
    """
    job = claim.job
    worker.running = [
        older
        for older in worker.running
        if older.job.id != job.id or (older.job.attempts != job.attempts and older.job.key is None)
    ]
    worker.running.append(claim)
    worker.known[job.id] = claim


def _take_away(row: Row) -> None:
    """Somebody else ends a claim, which they may only if its worker cannot rely on it any more."""
    claim = row.holder
    assert claim is not None
    if claim.sound:
        patience_is_over = row.lock_age > ABANDONMENT if not claim.worker.renews else claim.worker.slept
        assert patience_is_over, "a job was taken from a worker that lives"
        claim.sound = False
    row.holder = None


def _interruptions(last_error: str | None) -> int:
    """Return how often in a row a job was taken from a dead worker, as its row says."""
    if last_error is None or not last_error.startswith(_RECOVERED):
        return 0
    return int(last_error.removeprefix(_RECOVERED).strip(" ()").removesuffix(" in a row") or 1)
