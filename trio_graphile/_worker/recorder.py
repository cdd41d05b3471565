"""The recorder: writes outcomes. Those that come during a write are written together (group commit)."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, assert_never

import attrs
import trio

from trio_graphile._database import held_rows
from trio_graphile._database.connection import Executor
from trio_graphile._database.left_jobs import find_left_jobs
from trio_graphile._database.session import persist
from trio_graphile._exceptions import ConnectionLost, DatabaseError, StatementFailed
from trio_graphile._model.bell import Bell
from trio_graphile._model.failures import describe_error
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import (
    Completed,
    Failed,
    Lost,
    Outcome,
    Removed,
    Returned,
    Settled,
    Snoozed,
)
from trio_graphile._model.pace import Pace
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.batches import OutcomeT, Refused, TooMuch, Waiting, certain_outcome
from trio_graphile._worker.counts import Counts
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.ledger import Ledger

logger = logging.getLogger("trio_graphile.worker")

_MOST_WAITING = 4096
"""How many outcomes may wait to be written before slots pause."""
_DELETING = (Completed, Removed)
"""The outcomes that delete the rows of their jobs."""
_OUT_OF_TIME = frozenset({"57014", "55P03"})
"""SQLSTATEs: a statement, or its wait for a row that somebody else has locked, has taken too long."""


@attrs.define(eq=False, kw_only=True)
class Recorder:
    """Takes outcomes from the slots, and keeps each until it is written."""

    _session: Executor
    """The session in which outcomes are written."""
    _worker_id: str
    _ledger: Ledger
    """Says which jobs are still ours, and is told what became of their outcomes."""
    _announcements: Announcements
    """Is told of each outcome that is recorded: there may be a job to claim now."""
    _job_events: JobEvents
    """Is told of outcomes that are certain: they are written, or need not be."""
    _complete_delay: float = 0.0
    """How long a completion waits for others to be written with, in seconds. Defaults to 0."""
    _fail_delay: float = 0.0
    """How long a failure waits for others to be written with, in seconds. Defaults to 0."""
    waiting: int = 0
    """How many outcomes are not written yet, with those that the database refuses."""
    refused: dict[int, Refused] = attrs.field(factory=dict)
    """Outcomes that the database refuses, by the id of their job. No other outcome waits for them."""
    writing_since: float | None = None
    """When the write that is under way began, by Trio's clock; None if none is."""
    paused: int = 0
    """How many slots pause until there is room."""
    _kinds: dict[type[Outcome], Waiting[Any]] = attrs.field(init=False)
    """Outcomes that wait to be written, by their kind."""
    _tally: Counter[type[Outcome]] = attrs.field(init=False, factory=Counter)
    """How many runs had an outcome of which kind; only outcomes that are recorded count."""
    _arrived: Bell = attrs.field(factory=Bell)
    _written: Bell = attrs.field(factory=Bell)

    def __attrs_post_init__(self) -> None:
        kinds = (Completed, Failed, Returned, Snoozed, Removed)
        delays = {Completed: self._complete_delay, Failed: self._fail_delay}
        self._kinds = {kind: Waiting(kind=kind, delay=delays.get(kind, 0.0)) for kind in kinds}

    @property
    def counts(self) -> Counts:
        """How many runs had which outcome; only outcomes that are recorded count. From any thread."""
        tally = self._tally
        return Counts(
            completed=tally[Completed] + tally[Settled],
            failed=tally[Failed],
            returned=tally[Returned],
            snoozed=tally[Snoozed],
            removed=tally[Removed],
            lost=tally[Lost],
        )

    def put(self, outcome: Outcome, *, maybe_completed: bool = False) -> None:
        """Take an outcome. Neither blocks nor fails, and is no checkpoint.

        `maybe_completed` says that the handler tried to complete its job and does not know whether it did.
        """
        if maybe_completed:
            self._ledger.completed_maybe(outcome.job)
        match outcome:
            case Completed() | Failed() | Returned() | Snoozed() | Removed():
                waiting = self._kinds[type(outcome)]
                if not waiting.outcomes:  # else they are due already, or will be together with the first
                    waiting.due_at = trio.current_time() + waiting.delay
                    self._arrived.ring()
                waiting.outcomes.append(outcome)
                self.waiting += 1
            case Settled(job):
                self._ledger.ended(job)
                self._count_unwritten(outcome, freed_a_queue=job.queue_name is not None)
            case Lost(job):
                self._ledger.lost(job)
                self._count_unwritten(outcome, freed_a_queue=False)  # who has the job has its queue
            case _:
                assert_never(outcome)

    def _count_unwritten(self, outcome: Settled | Lost, *, freed_a_queue: bool) -> None:
        """Count an outcome that need not be written."""
        self._tally[type(outcome)] += 1
        self._announcements.recorded(freed_a_job=freed_a_queue)
        if self._job_events.are_observed:
            self._job_events.recorded([outcome])

    @property
    def is_full(self) -> bool:
        """Whether too many outcomes wait to be written. Slots pause then, since they outrun the database."""
        return self.waiting > _MOST_WAITING

    @property
    def overdue(self) -> float:
        """For how long outcomes have been due without a write under way, in seconds."""
        due_at = min(waiting.due_at for waiting in self._kinds.values())
        return 0.0 if self.writing_since is not None else max(0.0, trio.current_time() - due_at)

    async def wait_for_room(self) -> None:
        """Wait until the recorder is not full."""
        self.paused += 1
        try:
            while self.is_full:
                await self._written.wait()
        finally:
            self.paused -= 1

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write outcomes as they come, until cancelled. `flush` writes those that are left."""
        task_status.started()
        while True:
            due_at = min(
                *(waiting.due_at for waiting in self._kinds.values()),
                *(refused.due_at for refused in self.refused.values()),
            )
            if due_at > trio.current_time():
                with trio.move_on_at(due_at):
                    await self._arrived.wait()
            now = trio.current_time()
            await self._write_due(now)
            await self._write_refused(now)

    async def flush(self) -> None:
        """Write all outcomes that wait, and try those once more that the database has refused.

        A transient error is tried again until that works. The first batch is small, so that some outcomes are
        written even if the database is slow. When it is cancelled, the outcomes that are left still wait.
        """
        for waiting in self._kinds.values():
            waiting.pace.be_cautious()
        while any(waiting.outcomes for waiting in self._kinds.values()):
            await self._write_due(math.inf)
        await self._write_refused(math.inf)

    async def insist(self) -> None:
        """Write refused outcomes again, as long as their errors are transient: rows that are locked, say."""
        while any(refused.error.transient for refused in self.refused.values()):
            await self._write_refused(math.inf)

    async def _write_due(self, now: float) -> None:
        for waiting in self._kinds.values():
            if waiting.due_at <= now and waiting.outcomes:
                await self._write_oldest(waiting)

    async def _write_oldest(self, waiting: Waiting[OutcomeT]) -> None:
        """Write the oldest outcomes of one kind together; if that fails, fewer the next time."""
        batch = waiting.outcomes[: waiting.pace.size]
        error = await self._write(waiting, batch)
        if error is not None:
            waiting.pace.failed(len(batch))
            if len(batch) > 1:
                return
            self._set_aside(Refused(waiting=waiting, outcome=batch[0], error=error))
        waiting.forget(len(batch))

    def _set_aside(self, refused: Refused) -> None:
        job = refused.job
        self.refused[job.id] = refused
        self._ledger.refused(job)
        logger.log(
            logging.WARNING if refused.error.transient else logging.ERROR,
            "the outcome of job %d (%s) cannot be recorded; it is tried again now and then: %s",
            job.id,
            job.task_identifier,
            refused.error,
        )

    async def _write_refused(self, now: float) -> None:
        """Write refused outcomes that are due again, one by one."""
        for refused in [refused for refused in self.refused.values() if refused.due_at <= now]:
            error = await self._write(refused.waiting, [refused.outcome])
            if error is None:
                del self.refused[refused.job.id]
            else:
                refused.postpone(error)

    async def _write(self, waiting: Waiting[OutcomeT], batch: Sequence[OutcomeT]) -> DatabaseError | None:
        """Write outcomes together; return the error if the database refuses them, None if they are written.

        A single outcome that is refused is replaced by a failure. Raises `DatabaseError` for an error that
        has nothing to do with the rows.
        """
        try:
            ours = await self._persist(waiting.kind, batch, waiting.pace)
        except TooMuch as too_much:
            return too_much.error
        except StatementFailed as error:
            if len(batch) > 1:
                return error
            return await self._write_substitute(waiting, batch[0], error)
        self._note_written(waiting.kind, batch, ours)
        return None

    async def _write_substitute(
        self, waiting: Waiting[OutcomeT], outcome: OutcomeT, error: StatementFailed
    ) -> DatabaseError | None:
        """Write a failure in place of an outcome that the database refuses: the job must not stay locked.

        Return the error if that is refused, too, and None if it is written. Raises as `_write`.
        """
        try:
            await self._persist(waiting.kind, [])  # raises if a table is missing, say
        except TooMuch as too_much:
            return too_much.error
        job = outcome.job
        if job.id not in self.refused:
            logger.error("the outcome of job %d (%s) was refused: %s", job.id, job.task_identifier, error)
        refusal = describe_error(error)
        if isinstance(outcome, Failed):
            refusal = f"{outcome.error[:200]!a} (whose record was refused: {refusal})"
        failure = Failed(job, refusal)
        try:
            ours = await self._persist(Failed, [failure])
        except TooMuch as too_much:
            return too_much.error
        except StatementFailed as refused:
            return refused
        self._note_written(Failed, [failure], ours)
        return None

    async def _record(self, kind: type[Outcome], batch: Sequence[Any]) -> set[int]:
        """Write outcomes of one kind; return the ids of the jobs that were still ours."""
        session, worker_id = self._session, self._worker_id
        if kind in _DELETING:
            return await held_rows.complete_jobs(session, worker_id, [outcome.job for outcome in batch])
        if kind is Failed:
            return await held_rows.fail_jobs(session, worker_id, batch)
        if kind is Returned or kind is Snoozed:
            return await held_rows.return_jobs(session, worker_id, batch)
        raise AssertionError(f"nothing writes {kind.__name__}")

    async def _persist(
        self, kind: type[Outcome], batch: Sequence[Outcome], pace: Pace | None = None
    ) -> set[int]:
        """Write outcomes of one kind; return the ids of the jobs that were still ours.

        A transient error is tried again until that works. Raises `StatementFailed` for every other error, and
        `TooMuch`. `pace` is told how long the write took.
        """

        async def attempt() -> set[int]:
            began = trio.current_time()
            try:
                ours = await write()
            except ConnectionLost as error:
                self._ledger.unanswered((outcome.job for outcome in batch), deletes=kind in _DELETING)
                if len(batch) > 1:  # it may have been given up since it took too long
                    raise TooMuch(error) from error
                raise
            except StatementFailed as error:
                if error.sqlstate in _OUT_OF_TIME:
                    raise TooMuch(error) from error
                raise
            if pace is not None:
                pace.wrote(len(batch), trio.current_time() - began)
            return ours

        async def write() -> set[int]:
            ledger = self._ledger
            if not ledger.may_be_ours_anew(outcome.job for outcome in batch):
                return await self._record(kind, batch)
            # A job that was given back, by the first attempt or by others, may have been claimed by us again,
            # and its row looks as it did. So no claim may be under way now, and jobs that we have claimed
            # again are left out.
            async with ledger.claiming:
                ours = await self._record(kind, [o for o in batch if not ledger.was_claimed_again(o.job)])
                await self._look_for_undeleted(kind, [outcome.job for outcome in batch], ours)
            return ours

        self.writing_since = trio.current_time()
        try:
            return await persist(attempt, what="recording outcomes")
        finally:
            self.writing_since = None

    async def _look_for_undeleted(self, kind: type[Outcome], jobs: Sequence[Job], ours: set[int]) -> None:
        """Find out whether jobs that were not found were taken from us, or completed before."""
        asked = self._ledger.may_be_deleted(job for job in jobs if job.id not in ours)
        if not asked:
            return
        found = (job for job in jobs if job.id in ours)
        self._ledger.unanswered(found, deletes=kind in _DELETING)  # in case that the look is cancelled
        try:
            left = await find_left_jobs(self._session, [job.id for job in asked])
        except DatabaseError as error:  # what is written stays written, and what is said of it is a guess
            logger.warning("looking for jobs that may be completed failed: %s", error)
        else:
            self._ledger.undeleted(job for job in asked if job.id in left)

    def _note_written(self, kind: type[Outcome], batch: Sequence[Outcome], ours: set[int]) -> None:
        """Count a batch that is written, and pass on what became of its jobs."""
        jobs = [outcome.job for outcome in batch]
        unfound = self._ledger.settled(jobs, ours)
        for job in unfound.lost:
            logger.error("job %d (%s) was taken from us while it ran", job.id, job.task_identifier)
        self._tally[Lost] += len(unfound.lost)
        self._tally[Settled] += len(unfound.completed)
        self._tally[kind] += len(jobs) - len(unfound.lost) - len(unfound.completed)
        self.waiting -= len(jobs)
        self._written.ring()
        freed_a_job = kind is Returned or any(job.queue_name is not None for job in jobs)
        self._announcements.recorded(freed_a_job=freed_a_job)
        if self._job_events.are_observed:
            lost, completed = {*map(id, unfound.lost)}, {*map(id, unfound.completed)}
            self._job_events.recorded([certain_outcome(outcome, lost, completed) for outcome in batch])
