"""Several workers, their clients, deaths and the passing of time: the tables are as modelled.

Hypothesis draws the steps. Each is done to the tables and to the model (`fleet_model`), then both are
compared to the last column. Steps come one after the other, and time passes only where a step says so.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import attrs
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.scenarios.fleet_model import (
    FAR,
    LATER,
    OUR_PREFIX,
    RESILIENT,
    SILENCE,
    AsOf,
    Claim,
    Ending,
    Fleet,
    Row,
    Worker,
    forget,
)
from tests.scenarios.portal import Portal
from tests.support.shares import Share
from trio_graphile import Job, JobKeyMode, JobSpec
from trio_graphile._database import (
    cancellations,
    changes,
    held_rows,
    stale_locks,
    sweeps,
    unknown_locks,
    worker_registry,
)
from trio_graphile._database.adding.many import add_many
from trio_graphile._database.adding.one import add_job
from trio_graphile._database.claiming import claims
from trio_graphile._database.connection import Connection
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.cancellation import CancelledJobs, CancelOutcome
from trio_graphile._model.jobs import JobChange, NewJob
from trio_graphile._model.json import decode, encode
from trio_graphile._model.options import SweepOptions
from trio_graphile._model.outcomes import Failed, Returned, Snoozed

TASKS = ["a", "b"]
SLOTS = 3
"""Two workers of ours and one that neither registers nor renews; whoever dies is followed by another."""
JOBS = """
    select jobs.id, tasks.identifier as task, jobs.payload::text as payload, queues.queue_name as queue,
      jobs.key, jobs.flags::text as flags, jobs.priority, jobs.run_at, jobs.max_attempts, jobs.attempts,
      jobs.last_error, jobs.revision, jobs.locked_by as holder,
      coalesce(floor(extract(epoch from now() - jobs.locked_at) / 60), 0)::integer as lock_age
    from graphile_worker._private_jobs as jobs
    join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
    left join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
"""
QUEUES = """
    select queue_name as name, locked_by as holder,
      floor(extract(epoch from now() - locked_at) / 60)::integer as age
    from graphile_worker._private_job_queues
    where locked_at is not null or locked_by is not null
"""
REQUESTS = """
    select job_id, worker_id, outcome
    from graphile_worker.trio_graphile_cancellations
"""
WORKERS = """
    select id, floor(extract(epoch from now() - last_heartbeat_at) / 60)::integer as silence
    from graphile_worker._private_workers
"""


OUTCOMES: dict[Ending, CancelOutcome] = {"fail for good": "fail", "return": "return"}
"""What may be asked for when a job is cancelled."""


class Tables:
    """The real thing. Statements of workers run on a session as workers have it."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.database = portal.database
        self.session: Connection = portal(self.database.open_session, "model", cancel_timeout=5.0)
        self._looked_at = portal(self._now)

    def close(self) -> None:
        self.portal(self.session.aclose)

    def empty(self) -> None:
        self.portal(
            self.session.execute,
            """
            delete from graphile_worker._private_jobs;
            delete from graphile_worker._private_job_queues;
            delete from graphile_worker._private_workers;
            delete from graphile_worker.trio_graphile_cancellations
            """,
        )
        self._looked_at = self.portal(self._now)

    async def _now(self) -> datetime:
        now = await self.session.fetch_value("select clock_timestamp()")
        assert isinstance(now, datetime)
        return now

    def compare(self, model: Fleet) -> None:
        self.portal(self._compare, model)

    async def _compare(self, model: Fleet) -> None:
        rows = {row["id"]: dict(row) for row in await self.session.fetch(JOBS)}
        queues = {row["name"]: (row["holder"], row["age"]) for row in await self.session.fetch(QUEUES)}
        silence = {row["id"]: row["silence"] for row in await self.session.fetch(WORKERS)}
        await self._settle_times(model, rows)
        assert {id_: _as_modelled(row) for id_, row in rows.items()} == {
            id_: _as_stored(row) for id_, row in model.jobs.items()
        }
        assert queues == {name: (lock.worker.id, lock.age) for name, lock in model.queues.items()}
        assert silence == model.silence
        requests = {row["job_id"]: tuple(row.values())[1:] for row in await self.session.fetch(REQUESTS)}
        assert requests == {id_: (r.worker.id, OUTCOMES[r.ending]) for id_, r in model.requests.items()}

    async def _settle_times(self, model: Fleet, rows: dict[int, dict[str, Any]]) -> None:
        """Look at the times that the database's clock has set, and set them so that examples can be repeated.

        What would soon be due is put off; what is due gets a time of its own, later than those of `past`.
        """
        now = await self._now()
        for id_, row in rows.items():
            expected = model.jobs.get(id_)
            if expected is None or not isinstance(expected.run_at, AsOf):
                continue
            delay = expected.run_at.delay
            longest = timedelta(seconds=delay * expected.run_at.factor)
            assert self._looked_at + timedelta(seconds=delay) <= row["run_at"] <= now + longest
            expected.run_at = row["run_at"] = FAR if delay else RECENT + timedelta(microseconds=id_)
            await self.session.execute(SET_TIME, id_, expected.run_at)
        self._looked_at = now


SET_TIME = """
    update graphile_worker._private_jobs
    set run_at = $2::timestamptz
    where id = $1::bigint
"""
PASS_TIME = """
    update graphile_worker._private_jobs
    set locked_at = locked_at - interval '{0} minutes', updated_at = updated_at - interval '{0} minutes';
    update graphile_worker._private_job_queues
    set locked_at = locked_at - interval '{0} minutes'
    where locked_at is not null;
    update graphile_worker._private_workers
    set last_heartbeat_at = last_heartbeat_at - interval '{0} minutes'
"""


def _as_modelled(row: dict[str, Any]) -> dict[str, Any]:
    flags = frozenset(decode(row["flags"]) if row["flags"] is not None else ())
    return row | {"payload": decode(row["payload"]), "flags": flags}


def _as_stored(row: Row) -> dict[str, Any]:
    fields = attrs.asdict(row, recurse=False, filter=lambda field, _: field.name != "detached")
    held = row.holder is not None
    return fields | {
        "holder": row.holder.worker.id if row.holder is not None else None,
        "lock_age": row.lock_age if held else 0,
    }


past = [datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
RECENT = datetime(2021, 1, 1, tzinfo=UTC)
moments = st.sampled_from([None, *past, *past, FAR])
flags = st.sampled_from(
    [frozenset[str](), frozenset({"x"}), frozenset({RESILIENT}), frozenset({"x", RESILIENT})]
)
priorities = st.integers(-1, 1)
specs = st.builds(
    JobSpec,
    queue_name=st.sampled_from([None, "p", "p", "q"]),
    run_at=moments,
    max_attempts=st.integers(1, 3),
    job_key=st.sampled_from([None, "k", "k", "l"]),
    priority=priorities,
    flags=flags,
    job_key_mode=st.sampled_from(JobKeyMode),
)
jobs = st.tuples(st.sampled_from([*TASKS, *TASKS, "foreign"]), st.sampled_from([1, [1], [2]]), specs)
slots = st.integers(0, SLOTS - 1)
some = st.sets(st.integers(0, 4), min_size=1)
"""Positions in whatever there is; those beyond its end count for nothing."""
which = st.integers(0, 5)
"""One of those for whom a step means something, counted round."""
LATE = 30
"""From this step on all may end."""
new_values = st.fixed_dictionaries(
    {},
    optional={
        "run_at": moments.filter(lambda moment: moment is not None),
        "priority": priorities,
        "attempts": st.integers(0, 3),
        "max_attempts": st.integers(1, 4),
    },
).filter(bool)


class FleetMachine(RuleBasedStateMachine):
    """Each rule does one thing to the tables and to the model."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.tables = tables
        self.run = tables.portal
        self.database, self.session = tables.database, tables.session
        self.model = Fleet()
        self.workers: list[Worker] = []
        tables.empty()
        self.slots = [self.start_worker(renews=slot != SLOTS - 1) for slot in range(SLOTS)]

        self.steps = self.moments = 0

    @initialize(jobs=st.lists(jobs, min_size=2, max_size=6))
    def add_first_jobs(self, jobs: list[tuple[str, Any, JobSpec]]) -> None:
        for job in jobs:
            self.add_job(job)

    def start_worker(self, *, renews: bool) -> Worker:
        prefix = OUR_PREFIX if renews else "worker-"
        worker = Worker(f"{prefix}{len(self.workers)}", renews=renews)
        self.workers.append(worker)
        self.beat(worker)
        return worker

    def beat(self, worker: Worker) -> None:
        if worker.renews:
            self.run(worker_registry.heartbeat, self.session, worker.id, {"pid": 1})
            self.model.silence[worker.id] = 0

    def ids_at(self, positions: Collection[int]) -> list[int]:
        """Return the ids of jobs, and one of no job."""
        ids = sorted(self.model.jobs)
        return [id_ for position, id_ in enumerate(ids) if position in positions] + [2**40]

    # --- clients --------------------------------------------------------------------------------

    def distinct(self, moment: datetime | None) -> datetime | None:
        """Of equally good jobs the database chooses, and not always the same: so no two are."""
        self.moments += 1
        return None if moment is None else moment + timedelta(microseconds=self.moments)

    @rule(job=jobs)
    def add_job(self, job: tuple[str, Any, JobSpec]) -> None:
        task, payload, spec = job
        spec = attrs.evolve(spec, run_at=self.distinct(spec.run_at))
        answer = self.run(add_job, self.database, NewJob(task, encode(payload), spec))
        self.model.add(task, payload, spec, answer)
        self.model.last_id = max(self.model.last_id, answer.id)

    @rule(
        jobs=st.lists(jobs, min_size=2, max_size=3, unique_by=lambda job: job[2].job_key or object()),
        mode=st.sampled_from([JobKeyMode.REPLACE, JobKeyMode.PRESERVE_RUN_AT]),
    )
    def add_jobs(self, jobs: list[tuple[str, Any, JobSpec]], mode: JobKeyMode) -> None:
        jobs = [
            (task, payload, attrs.evolve(spec, run_at=self.distinct(spec.run_at), job_key_mode=mode))
            for task, payload, spec in jobs
        ]
        new_jobs = [NewJob(task, encode(payload), spec) for task, payload, spec in jobs]
        answers = self.run(add_many, self.database, new_jobs, lambda new_job: new_job)
        for (task, payload, spec), answer in zip(jobs, answers, strict=True):
            self.model.add(task, payload, spec, answer)
        self.model.last_id = max(self.model.last_id, *(answer.id for answer in answers))

    @precondition(lambda self: self.model.held_keys)
    @rule(job=jobs, which=which, renewed=st.booleans())
    def replace_what_runs(self, job: tuple[str, Any, JobSpec], which: int, *, renewed: bool) -> None:
        task, payload, spec = job
        keys = self.model.held_keys
        self.add_job((task, payload, attrs.evolve(spec, job_key=keys[which % len(keys)])))
        if renewed:
            self.tables.compare(self.model)
            for worker in self.slots:
                if worker.renews:
                    self.renew_all(worker)

    @precondition(lambda self: any(row.key for row in self.model.jobs.values()))
    @rule(key=st.sampled_from(["k", "l"]))
    def remove_job(self, key: str) -> None:
        answer = self.run(changes.remove_job, self.database, key)
        assert (None if answer is None else answer.id) == self.model.remove(key)

    @precondition(lambda self: self.model.jobs)
    @rule(positions=some, what=st.sampled_from(["reschedule", "complete", "fail"]), values=new_values)
    def change_jobs(self, positions: set[int], what: str, values: dict[str, Any]) -> None:
        ids, database = self.ids_at(positions), self.database
        if "run_at" in values:
            ids, values = ids[:1], values | {"run_at": self.distinct(values["run_at"])}
        match what:
            case "complete":
                answer = self.run(changes.complete_jobs, database, ids)
                changed = self.model.complete_as_client(ids)
            case "fail":
                answer = self.run(changes.permanently_fail_jobs, database, ids, "enough")
                changed = self.model.fail_as_client(ids, "enough")
            case _:
                answer = self.run(changes.reschedule_jobs, database, ids, JobChange(**values))
                changed = self.model.reschedule(ids, **values)
        assert {job.id for job in answer.jobs} == changed
        assert set(answer.skipped_ids) == set(ids) - changed

    @precondition(lambda self: self.model.has_locks)
    @rule(positions=some, ending=st.sampled_from(sorted(OUTCOMES)))
    def cancel_jobs(self, positions: set[int], ending: Ending) -> None:
        ids = self.ids_at(positions)
        answer = self.run(self.cancel, ids, OUTCOMES[ending])
        asked, failed = self.model.cancel(ids, ending, "not wanted")
        assert {*answer.requested_ids} == asked
        assert {job.id for job in answer.jobs} == failed
        assert {*answer.skipped_ids} == {*ids} - asked - failed

    async def cancel(self, ids: list[int], outcome: CancelOutcome) -> CancelledJobs:
        async with self.database.transaction() as connection:
            return await cancellations.cancel_jobs(connection, ids, outcome, "not wanted")

    @precondition(lambda self: self.model.has_locks)
    @rule(chosen=st.sets(slots, min_size=1), the_dead=st.booleans())
    def force_unlock(self, chosen: set[int], *, the_dead: bool) -> None:
        ids = [self.slots[slot].id for slot in sorted(chosen)]
        if the_dead:
            ids = [worker.id for worker in self.workers if not worker.alive]
        self.run(changes.force_unlock_workers, self.database, ids)
        self.model.force_unlock(ids)

    # --- workers --------------------------------------------------------------------------------

    @precondition(lambda self: self.model.claimable(()))
    @rule(slot=slots, limit=st.sampled_from([4, 1, 2]), forbidden=flags)
    def claim(self, slot: int, limit: int, forbidden: Collection[str], *, lost: bool = False) -> None:
        worker = self.slots[slot]
        if worker.slept and worker.renews:
            self.renew_all(worker)
        rules = ClaimRules(sorted(forbidden))
        answer = self.run(claims.get_jobs, self.session, worker.id, TASKS, limit, rules)
        assert answer == sorted(answer, key=lambda job: (job.priority, job.run_at, job.id))
        self.model.claim(worker, limit, forbidden, answer, lost=lost)

    @precondition(lambda self: self.model.claimable(()))
    @rule(slot=slots, limit=st.sampled_from([4, 1]))
    def claim_and_lose_the_answer(self, slot: int, limit: int) -> None:
        self.claim(slot, limit, forbidden=set(), lost=True)

    @precondition(lambda self: self.model.jobs)
    @rule(slot=slots, forbidden=flags)
    def claim_what_there_is(self, slot: int, forbidden: Collection[str]) -> None:
        self.claim(slot, 3, forbidden)

    @precondition(lambda self: self.has_running)
    @rule(which=which)
    def claim_again_what_was_taken_by_force(self, which: int) -> None:
        """Now the worker runs jobs twice, and only the later claim may end them."""
        worker = choose([worker for worker in self.slots if worker.running], which)
        self.run(changes.force_unlock_workers, self.database, [worker.id])
        self.model.force_unlock([worker.id])
        self.claim(self.slots.index(worker), 4, forbidden=())

    @precondition(lambda self: self.has_running)
    @rule(which=which, positions=some, answer_is_lost=st.booleans())
    def complete(self, which: int, positions: set[int], *, answer_is_lost: bool) -> None:
        self.end(which, positions, "complete", answer_is_lost=answer_is_lost)

    @precondition(lambda self: self.has_running)
    @rule(
        which=which,
        positions=some,
        ending=st.sampled_from(["fail", "fail", "fail later", "fail for good"]),
        payload=st.sampled_from([None, None, [9], 9]),
        answer_is_lost=st.booleans(),
    )
    def fail(
        self, which: int, positions: set[int], ending: Ending, payload: Any, *, answer_is_lost: bool
    ) -> None:
        self.end(which, positions, ending, payload, answer_is_lost=answer_is_lost)

    @precondition(lambda self: self.has_running)
    @rule(
        which=which,
        positions=some,
        ending=st.sampled_from(["return", "return", "snooze"]),
        payload=st.sampled_from([None, None, [8], 8]),
        answer_is_lost=st.booleans(),
    )
    def give_back(
        self, which: int, positions: set[int], ending: Ending, payload: Any, *, answer_is_lost: bool
    ) -> None:
        self.end(which, positions, ending, payload, answer_is_lost=answer_is_lost)

    @precondition(lambda self: self.model.requests)
    @rule(which=which)
    def obey(self, which: int) -> None:
        """End what somebody wants to be cancelled, each job as it was asked for."""
        asked = [worker for worker in self.slots if worker in self.asked]
        worker = choose(asked or self.slots, which)
        requests = self.run(cancellations.get_cancel_requests, self.session, worker.id)
        mine = {id_: r.ending for id_, r in self.model.requests.items() if r.worker is worker}
        assert {r.job_id: r.outcome for r in requests} == {id_: OUTCOMES[e] for id_, e in mine.items()}
        for ending in sorted({*mine.values()}):
            claims = [claim for claim in worker.running if mine.get(claim.job.id) == ending]
            recorded = self.run(self.record, worker, claims, ending, "not wanted", None)
            assert recorded == self.model.end(claims, ending, "not wanted")
            for claim in claims:
                forget(worker, claim)
        self.run(cancellations.forget_cancel_requests, self.session, worker.id, requests)
        for id_ in mine:
            del self.model.requests[id_]

    @property
    def asked(self) -> list[Worker]:
        return [request.worker for request in self.model.requests.values()]

    @property
    def has_running(self) -> bool:
        return any(worker.running for worker in self.slots)

    def end(
        self,
        which: int,
        positions: set[int],
        ending: Ending,
        payload: Any = None,
        *,
        answer_is_lost: bool,
    ) -> None:
        worker = choose([worker for worker in self.slots if worker.running], which)
        claims = [claim for position, claim in enumerate(worker.running) if position in positions]
        error = f"no luck {self.steps}"
        recorded = self.run(self.record, worker, claims, ending, error, payload)
        assert recorded == self.model.end(claims, ending, error, payload)
        if not answer_is_lost:  # else they are written once more, some time
            for claim in claims:
                forget(worker, claim)

    async def record(
        self, worker: Worker, claims: list[Claim], ending: Ending, error: str, payload: Any
    ) -> set[int]:
        jobs = [claim.job for claim in claims]
        text = None if payload is None else encode(payload)
        match ending:
            case "complete":
                return await held_rows.complete_jobs(self.session, worker.id, jobs)
            case "fail" | "fail later" | "fail for good":
                delay = LATER if ending == "fail later" else None
                permanent = ending == "fail for good"
                failures = [
                    Failed(job, error, delay=delay, permanent=permanent, payload_json=text) for job in jobs
                ]
                return await held_rows.fail_jobs(self.session, worker.id, failures)
            case "return":
                returns = [Returned(job, payload_json=text) for job in jobs]
                return await held_rows.return_jobs(self.session, worker.id, returns)
            case "snooze":
                snoozes = [Snoozed(job, delay=LATER, payload_json=text) for job in jobs]
                return await held_rows.return_jobs(self.session, worker.id, snoozes)
            case _:
                assert_never(ending)

    @precondition(lambda self: self.model.has_locks)
    @rule(which=which)
    def reconcile(self, which: int) -> None:
        doubtful = [
            row.holder.worker for row in self.model.jobs.values() if row.holder and not row.holder.sound
        ]
        worker = choose([worker for worker in self.slots if worker in doubtful] or self.slots, which)
        held = [claim.job for claim in worker.known.values()]
        returned = self.run(unknown_locks.reconcile, self.session, worker.id, held)
        assert returned == self.model.reconcile(worker)

    @precondition(lambda self: self.model.has_locks)
    @rule(slot=st.integers(0, SLOTS - 2))
    def renew(self, slot: int) -> None:
        self.renew_all(self.slots[slot])

    def renew_all(self, worker: Worker) -> None:
        """As a worker does it: the heartbeat goes with the locks."""
        self.beat(worker)
        held: list[Job] = [claim.job for claim in worker.known.values()]
        renewal = self.run(worker_registry.renew, self.session, worker.id, held)
        assert (set(renewal.lost), set(renewal.detached)) == self.model.renew(worker)

    # --- time and death -------------------------------------------------------------------------

    @precondition(lambda self: self.model.has_locks)
    @rule(slot=slots)
    def kill(self, slot: int) -> None:
        killed = self.slots[slot]
        self.model.kill(killed)
        self.slots[slot] = self.start_worker(renews=killed.renews)

    @precondition(lambda self: self.model.has_locks)
    @rule(minutes=st.sampled_from([10, 10, 10, 300]), asleep=st.sets(slots))
    def pass_time(self, minutes: int, asleep: set[int]) -> None:
        self.run(self.session.execute, PASS_TIME.format(minutes))
        self.model.pass_time(minutes)
        for slot, worker in enumerate(self.slots):
            worker.slept = True
            if worker.renews and slot not in asleep:
                self.renew_all(worker)

    @precondition(lambda self: self.model.somebody_is_silent)
    @rule(delay=st.sampled_from([0.0, 30.0]), dry_run=st.booleans())
    def sweep(self, delay: float, *, dry_run: bool) -> None:
        registered, others = self.model.dead()
        options = SweepOptions(
            sweep_threshold=SILENCE * 60.0, foreign_threshold=SILENCE * 60.0, recovery_delay=delay
        )
        report = self.run(sweeps.sweep, self.database, options, dry_run=dry_run)
        assert set(report.worker_ids[: len(registered)]) == registered
        assert set(report.worker_ids[len(registered) :]) == others
        assert report.recovered_jobs == (0 if dry_run else self.model.sweep(delay))

    @precondition(lambda self: self.model.has_old_locks)
    @rule()
    def reset_stale_locks(self) -> None:
        report = self.run(stale_locks.reset_stale_locks, self.session)
        assert (report.jobs, report.queues) == self.model.reset()

    @precondition(lambda self: self.steps >= LATE and self.model.jobs)
    @rule()
    def begin_anew(self) -> None:
        """All die and are swept; whoever follows finds every job that is due and has an attempt left."""
        for slot in range(SLOTS):
            self.kill(slot)
        self.pass_time(300, asleep=set())
        self.sweep(delay=0.0, dry_run=False)
        self.tables.compare(self.model)
        assert not self.model.queues
        while claimable := self.model.claimable(()):
            self.claim(0, limit=4, forbidden=set())
            assert {row.id for row in claimable} >= self.slots[0].known.keys() != set()
            self.sweep(delay=0.0, dry_run=False)  # of the living it takes nothing
            self.end(0, positions=set(range(4)), ending="complete", answer_is_lost=False)
        for row in self.model.jobs.values():
            assert not row.is_available or not row.is_due or row.task not in TASKS

    # --- what always holds ----------------------------------------------------------------------

    @invariant()
    def as_modelled(self) -> None:
        self.steps += 1
        self.tables.compare(self.model)
        self.model.check(self.workers)


def choose(workers: list[Worker], which: int) -> Worker:
    return workers[which % len(workers)]


@pytest.mark.timeout(1800)  # to shorten an example that fails takes minutes
def test_a_fleet_leaves_the_tables_as_modelled(portal: Portal, request: pytest.FixtureRequest) -> None:
    examples = 2000 if request.config.getoption("--exhaustive") else 150
    examples = Share.of_run(request.config).count(examples)
    tables = Tables(portal)

    class Machine(FleetMachine):
        def __init__(self) -> None:
            super().__init__(tables)

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                report_multiple_bugs=False,
            ),
        )
    finally:
        tables.close()
