"""What must be true when a worker has ended, whatever ended it."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from tests.scenarios.bad_tempers import DOOMED
from tests.scenarios.journal import REASON, Journal
from tests.scenarios.rivals import OTHER
from tests.scenarios.trial import Trial
from tests.support.maintenance import DEAD
from trio_graphile._database.connection import Row
from trio_graphile._database.session import persist

REFUSED_PRIORITY = 7
"""The database refuses to delete jobs of this priority: their completion cannot be recorded as such."""

UNSEEN = {"computing", *DOOMED}
"""Tasks whose handlers run in processes, where there is no journal."""

TAKEN = {f"Job recovered after worker interruption{when}" for when in ("", " (while it stopped)")}
"""What the last error of a job says that was taken from us."""

LEFT = """
    select jobs.id, tasks.identifier as task, jobs.priority, jobs.attempts, jobs.max_attempts,
      jobs.locked_by, jobs.job_queue_id, jobs.last_error, jobs.run_at > jobs.updated_at as later,
      jobs.payload::text as payload
    from graphile_worker._private_jobs as jobs
    join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
"""  # later than it was left, not than now: the first retry is due after three seconds

LOCKED_QUEUES = """
    select id, locked_by
    from graphile_worker._private_job_queues
    where locked_by is not null or locked_at is not null
"""

TIMES_ADDED = """
    select coalesce(sum(extract(epoch from last_execution - known_since) / 60), 0)::integer as later,
      count(last_execution)::integer as first
    from graphile_worker._private_known_crontabs
"""  # a minute lies between two; an entry that nobody knew is added at once


@attrs.define
class Aftermath:
    """What a trial has left in the tables, and what its handlers say."""

    trial: Trial
    left: dict[int, Row] = attrs.field(factory=dict)

    @property
    def journal(self) -> Journal:
        return self.trial.journal

    async def check(self) -> None:
        """Nothing is locked, no job is lost, each has one of its fates, and the right number of attempts."""
        self.left = {row["id"]: row for row in await self._fetch(LEFT)}
        journal = self.journal
        self._find_taken()
        assert not journal.violations, journal.violations
        assert not journal.running, "a handler outlived the run"
        await self._check_locks()
        await self._check_effects()
        self._look_into_processes()
        refused = self._ids_of_priority(REFUSED_PRIORITY) & journal.finished
        assert not journal.finished & self.left.keys() - refused, "a finished job is still there"
        assert journal.added <= self.left.keys() | journal.finished, "a job that was added is not there"
        for id_, row in self.left.items():
            self._check_fate(row, refused=id_ in refused)
        self._check_report(refused)
        await self._check_count(len(self.left) + len(journal.finished - refused))

    async def _fetch(self, sql: str) -> list[Row]:
        return await persist(lambda: self.trial.observer.fetch(sql), what="looking")

    def _find_taken(self) -> None:
        """Whatever came of the runs of jobs that another has taken, it left no trace."""
        journal, taken = self.journal, self._locked_by(OTHER)
        assert taken <= journal.taken, "who has taken it does not know"
        if self.trial.rival.is_done:
            assert taken == journal.taken, f"of the jobs {journal.taken} that another has, {taken} are left"
        journal.taken = taken  # else the taking was given up
        for fates in (journal.finished, journal.snoozed, journal.interrupted):
            fates.difference_update(taken)
        for id_ in taken:
            journal.raised.pop(id_, None)

    async def _check_locks(self) -> None:
        """Nothing is, but for what nobody can write: that is named. And what other workers have locked."""
        of_others = self.journal.taken | self._locked_by(DEAD)
        locked = {id_ for id_, row in self.left.items() if row["locked_by"] is not None} - of_others
        incomplete = self.trial.incomplete
        queues_of_others = {self.left[id_]["job_queue_id"] for id_ in of_others} - {None}
        queues = {row["id"]: row["locked_by"] for row in await self._fetch(LOCKED_QUEUES)}
        locked_by_others = {id_ for id_, locked_by in queues.items() if locked_by in {OTHER, DEAD}}
        assert locked_by_others == queues_of_others, "a queue of a job that another has was freed"
        locked_queues = queues.keys() - locked_by_others
        if self.trial.scenario.unwritable is not None:
            locked &= self._ids_of_priority(self.trial.scenario.unwritable)
            assert locked == set(() if incomplete is None else incomplete.job_ids), str(incomplete)
            locked_queues -= {self.left[id_]["job_queue_id"] for id_ in locked}
            self.left = {id_: row for id_, row in self.left.items() if id_ not in locked}
            self.journal.finished |= locked  # it has no other fate
        else:
            assert incomplete is None, str(incomplete)
        still_locked = {id_ for id_, row in self.left.items() if row["locked_by"] is not None} - of_others
        assert not still_locked, f"jobs {still_locked} are locked"
        assert not locked_queues, f"queues {[queues[id_] for id_ in locked_queues]} are locked"

    async def _check_effects(self) -> None:
        """What handlers wrote in one transaction with the end of their jobs is there if these are not."""
        effects = {row["job_id"] for row in await self._fetch("select job_id from public.effects")}
        settling = {id_ for id_, task in self.trial.job_ids.items() if task == "settling"}
        assert effects == settling.difference(self.left)
        for id_ in effects:  # whatever its handler was told of the commit
            self.journal.raised.pop(id_, None)
        self.journal.finished |= effects

    def _look_into_processes(self) -> None:
        """Find out from what is left what became of jobs that keep no journal."""
        for id_, task in self.trial.job_ids.items():
            row = self.left.get(id_)
            if task in UNSEEN and row is None:
                assert task not in DOOMED, f"the job of {task} is said to be completed"
                self.journal.finished.add(id_)
            elif task in DOOMED and row is not None and row["attempts"]:
                assert DOOMED[task] in row["last_error"]
                self.journal.raised[id_] = row["last_error"]

    def _locked_by(self, worker_id: str) -> set[int]:
        return {id_ for id_, row in self.left.items() if row["locked_by"] == worker_id}

    def _ids_of_priority(self, priority: int) -> set[int]:
        return {id_ for id_, row in self.left.items() if row["priority"] == priority}

    def _check_fate(self, row: Row, *, refused: bool) -> None:
        journal, id_ = self.journal, row["id"]
        fate = (row["attempts"], row["last_error"], row["later"])
        if id_ in journal.taken:
            assert row["last_error"] in TAKEN, dict(row)
            assert (row["attempts"], row["later"]) == (1, False), dict(row)
        elif refused:
            assert (row["attempts"], row["later"]) == (1, True)
            assert "not this one" in row["last_error"]
        elif id_ in journal.raised:
            assert fate == (1, journal.raised[id_], True)
            if row["task"] == "batch":
                assert row["payload"] == "[2]", "the wrong items are left"
        elif id_ in journal.snoozed:
            assert fate == (0, None, True)
        elif row["last_error"] == REASON:
            assert row["attempts"] == row["max_attempts"]
            assert id_ in journal.cancel_requested
        elif row["locked_by"] == DEAD:
            assert fate == (1, None, False), "a job of a dead worker was changed"
        elif self.trial.scenario.does_chores and row["last_error"] in TAKEN:
            assert fate[::2] == (0, True), dict(row)
        else:
            assert fate == (0, None, False), dict(row)

    def _check_report(self, refused: Collection[int]) -> None:
        report, journal = self.trial.report, self.journal
        if report is not None:
            cancelled = {id_ for id_, row in self.left.items() if row["last_error"] == REASON}
            by_worker = (cancelled & journal.interrupted) - journal.cancelled_in_the_queue
            failed = journal.raised.keys() | refused | by_worker
            counts = (report.completed, report.failed)
            expected = (len(journal.finished.difference(refused)), len(failed))
            assert counts == expected, f"reported {counts}, but it was {expected}"
            least, most = len(journal.taken & journal.begun), len(journal.taken)
            assert least <= report.lost <= most, f"reported {report.lost} as lost, not {least} to {most}"
            assert not report.abandoned
        if self.trial.scenario.hooked:
            self.trial.onlookers.check(report, journal)

    async def _check_count(self, count: int) -> None:
        [times] = await self._fetch(TIMES_ADDED)
        by_crontab = times["later"] + (times["first"] if self.trial.scenario.installs else 0)
        expected = len(self.trial.job_ids) + by_crontab + len(self.journal.added)
        assert expected <= count <= expected + self.journal.maybe_added, (
            f"{expected} jobs were added, {count} are accounted for"
        )
