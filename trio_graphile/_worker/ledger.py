"""The ledger: which jobs this worker holds, and whether the database may know of more."""

# How sure a worker is of what it holds
# =====================================
#
# Rule 1: everything that this worker knows of the rows that are locked by it is in this file. Others tell the
# ledger what happened, in the words below, and ask it; nobody else keeps jobs by their ids to decide this.
#
# Rule 2: nothing here waits, and nothing here speaks to the database. So each of these methods is one step:
# no cancellation, and no other Trio task, can come in between.
#
# Rule 3: compare the object, not the id. A job that was taken from us can be claimed by us again while its
# first run goes on. Then there are two objects of one id, and what becomes of the old one says nothing about
# the new one, which is the one that we hold.
#
# The life of a job here:
#
#   claim_sent() ... claimed(jobs)      It is held. A claim without an answer, yet or ever, may have locked
#                                       jobs of which we know nothing. Whoever sent it and gets an exception
#                                       does not call `claimed`, so that the ledger remains uncertain.
#   dropped(job)                        It was taken from us before it ran. It is held no more.
#   unanswered(jobs)                    Its outcome was sent, and the session was lost before the answer came.
#   completed_maybe(job)                Its own handler tried to complete it, and does not know if it did.
#   undeleted(jobs)                     Their rows are there, so nobody completed them after all.
#   refused(job)                        The database does not take its outcome, for now. Its run is over.
#   settled(jobs, found)                Its outcome was written, or the database had no such job of ours.
#   ended(job), lost(job)               There is nothing to write: it was settled before, or is not ours.
#   lapsed()                            The lease had ended: others may have had all that we hold.
#   unknown_found()                     A look at the database found something locked by us that is not here.
#   unknown_explained()                 It was a claim that had no answer yet.
#
# A job is in doubt when it may have left us before its outcome is written: its outcome is unanswered or
# refused, the lease lapsed, or the same job was claimed again. By the time the outcome is written the row may
# be locked by a newer claim of ours, and look as it did before. So it is written only while `claiming` is
# held, and not at all if the job `was_claimed_again`. A doubt ends with its job: when that is settled, ended,
# lost or dropped.
#
# What it means that a job was not found when its outcome was written:
#
#   not unanswered                      Somebody took it from us. It is lost.
#   unanswered                          It was written the first time.
#   completed_maybe                     Its handler had completed it.
#
# To complete a job deletes its row. So before whoever writes calls `settled`, it looks for the rows of those
# that `may_be_deleted`: if one is there, another has taken the job, and it is lost.
#
# The ledger is certain, so that nobody has to search the database for rows of ours, if every claim was
# answered, every job that was claimed was settled, none was ever taken from us, no lease lapsed, and nothing
# unknown was found. It does not become certain again once a job was taken or a lease lapsed, for the lock of
# its queue may still be ours, nor once something was found: nobody knows what else went wrong.
#
# Threads: all of this belongs to the worker's thread, except `snapshot`, which the lease's thread calls, too.

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import attrs
import trio

from trio_graphile._model.jobs import Job


@attrs.frozen(kw_only=True)
class Unfound:
    """What became of those jobs of a batch that were not found when their outcomes were written."""

    lost: list[Job]
    """Taken from us."""
    completed: list[Job]
    """Completed by their own handlers. Those in neither list were written the first time."""


@attrs.define(eq=False)
class _Doubt:
    """Why a job may have left us before its outcome is written."""

    job: Job
    """Kept alive, since it is found by its identity."""
    written_maybe: bool = False
    """Whether an outcome had no answer that leaves the row."""
    deleted_maybe: bool = False
    """Whether one had none that deletes it."""
    completed_maybe: bool = False
    was_claimed_again: bool = False

    @property
    def explains_no_row(self) -> bool:
        """Whether the job may have been settled before, so that it is not found."""
        return self.written_maybe or self.deleted_maybe or self.completed_maybe

    def row_is_there(self) -> None:
        """Know that nobody has completed it."""
        self.deleted_maybe = self.completed_maybe = False


@attrs.define(eq=False)
class Ledger:
    """The jobs that this worker holds, from their claim to the record of their outcome."""

    claiming: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    """Held while a claim is under way, and by those who must know that none is."""
    lapses: int = attrs.field(init=False, default=0)
    """How often the lease had ended before it was renewed."""
    _jobs: dict[int, Job] = attrs.field(init=False, factory=dict)
    """What is held, by the id of the job. Written in the worker's thread, read in the lease's as well."""
    _refused: dict[int, Job] = attrs.field(init=False, factory=dict)
    """Those whose outcome the database does not take, by the id of the job."""
    _doubts: dict[int, _Doubt] = attrs.field(init=False, factory=dict)
    """By the identity of the job."""
    _has_claimed: bool = attrs.field(init=False, default=False)
    _unanswered_claims: int = attrs.field(init=False, default=0)
    """How many claims have no answer, yet or ever."""
    _taken: int = attrs.field(init=False, default=0)
    """How many jobs others have taken from us."""
    queues_in_doubt: int = attrs.field(init=False, default=0)
    """How many of these jobs had a queue, whose lock may still be ours."""
    _unknown: int = attrs.field(init=False, default=0)
    """How many times something was found to be locked by us of which nothing was known here."""

    # --- what happens to claims and to what they brought ----------------------------------------

    def claim_sent(self) -> None:
        """Take notice that a claim is about to be sent."""
        self._has_claimed = True
        self._unanswered_claims += 1

    def claimed(self, jobs: Collection[Job]) -> None:
        """Hold what the claim that was sent last has brought."""
        new = {job.id: job for job in jobs}
        for id_ in self._jobs.keys() & new.keys():
            doubt = self._doubt(self._jobs[id_])  # taken from us, or what was written of it had no answer
            doubt.was_claimed_again = True
            doubt.row_is_there()
        self._jobs.update(new)
        self._unanswered_claims -= 1

    def dropped(self, job: Job) -> None:
        """Take notice that a job was taken from us before it ran."""
        self._note_taken([job])
        self._forget([job])

    def lapsed(self) -> None:
        """Take notice that the lease had ended: others may have had all that is held."""
        self.lapses += 1
        for job in self._jobs.values():
            self._doubt(job)

    # --- what happens to outcomes ---------------------------------------------------------------

    def unanswered(self, jobs: Iterable[Job], *, deletes: bool) -> None:
        """Take notice that outcomes were sent and may have been written, which may delete their rows."""
        for job in jobs:
            doubt = self._doubt(job)
            doubt.deleted_maybe |= deletes
            doubt.written_maybe |= not deletes

    def completed_maybe(self, job: Job) -> None:
        """Take notice that the handler tried to complete its job, and does not know whether it did."""
        self._doubt(job).completed_maybe = True

    def undeleted(self, jobs: Iterable[Job]) -> None:
        """Take notice that the rows of these jobs are there."""
        for job in jobs:
            self._doubt(job).row_is_there()

    def refused(self, job: Job) -> None:
        """Take notice that the database does not take a job's outcome, which is to be tried again."""
        self._refused[job.id] = job
        self._doubt(job)  # by its next try, whoever refuses it may have given the job to others

    def settled(self, jobs: Sequence[Job], found: Collection[int]) -> Unfound:
        """Forget jobs whose outcomes were written; `found` are the ids of those that were still ours."""
        if len(found) == len(jobs):
            unfound = []
        else:
            unfound = [job for job in jobs if job.id not in found or self.was_claimed_again(job)]
        doubts = [(job, self._doubts.get(id(job))) for job in unfound]
        lost = [job for job, doubt in doubts if doubt is None or not doubt.explains_no_row]
        completed = [job for job, doubt in doubts if doubt is not None and doubt.completed_maybe]
        self._note_taken(lost)
        self._forget(jobs)
        return Unfound(lost=lost, completed=completed)

    def ended(self, job: Job) -> None:
        """Forget a job about which nothing is to be written: it is settled already."""
        self._forget([job])

    def lost(self, job: Job) -> None:
        """Forget a job about which nothing is to be written: it was taken from us while it ran."""
        self._note_taken([job])
        self._forget([job])

    def unknown_found(self) -> None:
        """Take notice that something seems to be locked by us of which nothing is known here."""
        self._unknown += 1

    def unknown_explained(self) -> None:
        """Take notice that what was found the last time was not locked any more, or is held by now."""
        self._unknown -= 1

    # --- what is held ---------------------------------------------------------------------------

    def snapshot(self) -> tuple[Job, ...]:
        """Return all that is held. From any thread: one step of the interpreter."""
        return tuple(self._jobs.values())

    def job(self, id_: int) -> Job | None:
        """Return the job with this id, if it is held."""
        return self._jobs.get(id_)

    def unended(self) -> Iterator[Job]:
        """Yield what is held and has a run that is not over, or has not begun."""
        return (job for job in self._jobs.values() if self._refused.get(job.id) is not job)

    @property
    def has_unended(self) -> bool:
        """Whether there is such a job."""
        return next(self.unended(), None) is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self._jobs

    # --- how sure we are of it ------------------------------------------------------------------

    def may_be_ours_anew(self, jobs: Iterable[Job]) -> bool:
        """Whether the row of one of these may be locked by a newer claim of ours."""
        return bool(self._doubts) and any(id(job) in self._doubts for job in jobs)

    def may_be_deleted(self, jobs: Iterable[Job]) -> list[Job]:
        """Return those that are completed if their rows are gone; if not, nothing is known of them."""
        doubts = [(job, self._doubts.get(id(job))) for job in jobs]
        return [job for job, doubt in doubts if doubt and (doubt.deleted_maybe or doubt.completed_maybe)]

    def was_claimed_again(self, job: Job) -> bool:
        """Whether the job is held anew, or was, so that nothing may be written about this claim of it."""
        doubt = self._doubts.get(id(job))
        return self._jobs.get(job.id, job) is not job or (doubt is not None and doubt.was_claimed_again)

    def is_certain(self, *, trusts_server: bool) -> bool:
        """Whether nothing can be locked by us of which nothing is known here.

        `trusts_server` says that the server has kept whatever it said is committed.
        """
        if self._has_claimed and not trusts_server:
            return False
        is_doubtful = self._unanswered_claims or self._taken or self.lapses or self._unknown
        return not (is_doubtful or self._jobs)

    def _note_taken(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._taken += 1
            self.queues_in_doubt += job.queue_name is not None

    def _doubt(self, job: Job) -> _Doubt:
        return self._doubts.setdefault(id(job), _Doubt(job))

    def _forget(self, jobs: Sequence[Job]) -> None:
        held, refused, doubts = self._jobs, self._refused, self._doubts
        for job in jobs:
            if held.get(job.id) is job:
                del held[job.id]
        if refused or doubts:  # nearly never, and asked once for a whole batch
            for job in jobs:
                if refused.get(job.id) is job:
                    del refused[job.id]
                doubts.pop(id(job), None)
