"""The recorder: writes outcomes. The first at once, those that come meanwhile together (group commit)."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, assert_never

import attrs
import trio

from trio_graphile._database import held_rows as queue
from trio_graphile._database.connection import Executor
from trio_graphile._database.session import persist
from trio_graphile._exceptions import ConnectionLost, DatabaseError, StatementFailed
from trio_graphile._model.bell import Bell
from trio_graphile._model.failures import describe_error
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
from trio_graphile._worker.batches import OutcomeT, Refused, TooMuch, Waiting
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.ledger import Ledger

logger = logging.getLogger("trio_graphile.worker")

_MOST_WAITING = 4096
_OUT_OF_TIME = frozenset({"57014", "55P03"})
"""A statement, or its wait for a row that somebody has locked, has taken too long."""


@attrs.frozen(kw_only=True)
class Counts:
    """How many runs ended how."""

    completed: int = 0
    failed: int = 0
    returned: int = 0
    snoozed: int = 0
    removed: int = 0
    lost: int = 0


@attrs.define(eq=False, kw_only=True)
class Recorder:
    """Takes outcomes from the slots and writes them. An outcome leaves only once it is written."""

    _session: Executor
    """Writes outcomes, and nothing else."""
    _worker_id: str
    _ledger: Ledger
    """Says which of the jobs that are to be written are still held, and hears what became of them."""
    _announcements: Announcements
    """Hears of each write: there may be a job to claim now."""
    _job_events: JobEvents
    """Hears of outcomes that are written, or about which nothing is to be written."""
    _complete_delay: float = 0.0
    """How long completions wait for others to be written with, in seconds."""
    _fail_delay: float = 0.0
    """How long failures do, in seconds."""
    waiting: int = 0
    """How many outcomes are not written yet, those that the database refuses included."""
    refused: dict[int, Refused] = attrs.field(factory=dict)
    """Outcomes that the database does not take, by the id of their job: they keep nothing else waiting."""
    writing_since: float | None = None
    """When the write that is under way began, by Trio's clock; None if none is."""
    paused: int = 0
    """How many slots wait for room."""
    _kinds: dict[type[Outcome], Waiting[Any]] = attrs.field(init=False)
    """What waits to be written, by what it is."""
    _tally: Counter[type[Outcome]] = attrs.field(init=False, factory=Counter)
    """How many runs came to what, as far as that is recorded."""
    _arrived: Bell = attrs.field(factory=Bell)
    _written: Bell = attrs.field(factory=Bell)

    def __attrs_post_init__(self) -> None:
        delays = {
            Completed: self._complete_delay,
            Failed: self._fail_delay,
            Returned: 0.0,
            Snoozed: 0.0,
            Removed: 0.0,
        }
        self._kinds = {kind: Waiting(kind=kind, delay=delay) for kind, delay in delays.items()}

    @property
    def counts(self) -> Counts:
        """How many runs ended how, as far as that is recorded. From any thread."""
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
                self._wait(self._kinds[type(outcome)], outcome)
            case Settled(job):
                self._ledger.ended(job)
                self._note_end(outcome, freed_a_queue=job.queue_name is not None)
            case Lost(job):
                self._ledger.lost(job)
                self._note_end(outcome, freed_a_queue=False)  # whoever has the job has its queue
            case _:
                assert_never(outcome)

    def _wait(self, waiting: Waiting[OutcomeT], outcome: OutcomeT) -> None:
        if not waiting.outcomes:  # those that join others do not change when they are due
            waiting.due_at = trio.current_time() + waiting.delay
            self._arrived.ring()
        waiting.outcomes.append(outcome)
        self.waiting += 1

    def _note_end(self, outcome: Settled | Lost, *, freed_a_queue: bool) -> None:
        """Take notice of the end of a job about which nothing is to be written."""
        self._tally[type(outcome)] += 1
        self._announcements.recorded(freed_a_job=freed_a_queue)
        if self._job_events.are_observed:
            self._job_events.recorded([outcome])

    @property
    def is_full(self) -> bool:
        """Whether too many outcomes wait to be written: slots that outrun the database pause then."""
        return self.waiting > _MOST_WAITING

    @property
    def overdue(self) -> float:
        """For how long outcomes have been due that nobody writes, in seconds."""
        due_at = min(waiting.due_at for waiting in self._kinds.values())
        return 0.0 if self.writing_since is not None else max(0.0, trio.current_time() - due_at)

    async def wait_for_room(self) -> None:
        """Wait while it is full."""
        self.paused += 1
        try:
            while self.is_full:
                await self._written.wait()
        finally:
            self.paused -= 1

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write outcomes as they come, until cancelled. What is left then is for `flush`."""
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
        """Write all that wait, however often the database has to be asked; what it refuses once more.

        Few at first, for some are to be written however slow it is. Cancelled between two statements it
        leaves the rest waiting.
        """
        for waiting in self._kinds.values():
            waiting.pace.be_cautious()
        while any(waiting.outcomes for waiting in self._kinds.values()):
            await self._write_due(math.inf)
        await self._write_refused(math.inf)

    async def insist(self) -> None:
        """Try again for as long as outcomes are kept waiting by rows that somebody has locked, say."""
        while any(refused.error.transient for refused in self.refused.values()):
            await self._write_refused(math.inf)

    async def _write_due(self, now: float) -> None:
        for waiting in self._kinds.values():
            if waiting.due_at <= now and waiting.outcomes:
                await self._write_oldest(waiting)

    async def _write_oldest(self, waiting: Waiting[OutcomeT]) -> None:
        """Write the oldest outcomes of one kind together; fewer the next time if that does not work."""
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
            "the outcome of job %d (%s) cannot be recorded, to be tried again now and then: %s",
            job.id,
            job.task_identifier,
            refused.error,
        )

    async def _write_refused(self, now: float) -> None:
        """Try again to write, one by one, what the database did not take."""
        for refused in [refused for refused in self.refused.values() if refused.due_at <= now]:
            error = await self._write(refused.waiting, [refused.outcome])
            if error is None:
                del self.refused[refused.job.id]
            else:
                refused.postpone(error)

    async def _write(self, waiting: Waiting[OutcomeT], batch: Sequence[OutcomeT]) -> DatabaseError | None:
        """Write outcomes together, a single one as failed if need be; return why that did not work.

        Raises `DatabaseError` for what is not the fault of a row.
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
        """Write, for an outcome that the database refuses, that it does: the job must not stay locked.

        Return why that did not work, either. Raises as `_write`.
        """
        try:
            await self._persist(waiting.kind, [])  # where the table is missing, say, this is refused, too
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
        if kind is Completed or kind is Removed:
            return await queue.complete_jobs(session, worker_id, [outcome.job for outcome in batch])
        if kind is Failed:
            return await queue.fail_jobs(session, worker_id, batch)
        return await queue.return_jobs(session, worker_id, batch)

    async def _persist(
        self, kind: type[Outcome], batch: Sequence[Outcome], pace: Pace | None = None
    ) -> set[int]:
        """Write, as often as it takes; return the ids of the jobs that were still ours.

        Raises `StatementFailed` for what does not pass, and `TooMuch`. `pace` learns how long it took.
        """

        async def attempt() -> set[int]:
            began = trio.current_time()
            try:
                ours = await write()
            except ConnectionLost as error:
                self._ledger.unanswered(outcome.job for outcome in batch)
                if len(batch) > 1:  # perhaps since it was given up for taking too long
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
            # A job that was given back, by the first try or by others, may be ours again, and look as it
            # did then. So no claim is under way now, and what was claimed since is left out.
            async with ledger.claiming:
                return await self._record(kind, [o for o in batch if not ledger.was_claimed_again(o.job)])

        self.writing_since = trio.current_time()
        try:
            return await persist(attempt, what="recording outcomes")
        finally:
            self.writing_since = None

    def _note_written(self, kind: type[Outcome], batch: Sequence[Outcome], ours: set[int]) -> None:
        """Take notice that a batch is written."""
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
            self._job_events.recorded([_as_it_is(outcome, lost, completed) for outcome in batch])


def _as_it_is(outcome: Outcome, lost: set[int], completed: set[int]) -> Outcome:
    """Return what a run has come to after all. The sets have the identities of jobs, not their ids."""
    job = outcome.job
    return Lost(job) if id(job) in lost else Settled(job) if id(job) in completed else outcome
