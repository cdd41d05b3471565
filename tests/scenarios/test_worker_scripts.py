"""Random scripts for a few real workers: start, add, stop, cancel, lose a session; then all is done once.

Hypothesis draws a script, a list of actions, and shortens it when it fails. What the workers do between two
actions is theirs; what is checked holds whatever they do.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, assert_never

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scenarios.portal import Portal
from tests.support.shares import Share
from tests.support.tables import locks
from tests.support.tempers import add_tempers, add_threaded
from trio_graphile import (
    Client,
    Database,
    Job,
    JobContext,
    JobSpec,
    LocalQueueOptions,
    ShutdownOptions,
    ShutdownReport,
    Snooze,
    TaskRegistry,
    Worker,
    WorkerOptions,
)

SHUTDOWN = ShutdownOptions(grace_period=0.02, flush_timeout=4.0)
PATIENCE = 40.0
"""For a slow machine; an example takes a fraction of a second."""
EMPTY = """
    delete from graphile_worker._private_jobs;
    delete from graphile_worker._private_job_queues;
    delete from graphile_worker._private_workers;
    delete from graphile_worker.trio_graphile_cancellations;
    create table if not exists public.done (number integer primary key);
    delete from public.done
"""
REASON = "not wanted any more"
MAKE_DUE = """
    update graphile_worker._private_jobs
    set run_at = now()
    where run_at > now()
"""
TERMINATE = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where datname = current_database()
      and application_name = 'trio_graphile ' || $1::text
    order by backend_start
    limit 1
"""


@attrs.frozen
class Start:
    concurrency: int
    local_queue: LocalQueueOptions


@attrs.frozen
class Add:
    temper: str
    queue: str | None
    key: str | None
    max_attempts: int


@attrs.frozen
class End:
    which: int
    how: Literal["stop", "cancel", "outer_cancel"]


@attrs.frozen
class Terminate:
    """End one session of a worker on the server's side."""

    purpose: Literal["claim", "outcomes", "listen", "lease"]


@attrs.frozen
class Cancel:
    """Have jobs cancelled, wherever they are: the last that were added."""

    last: int
    outcome: Literal["fail", "return"]


@attrs.frozen
class MakeDue:
    """Let the time come for whatever waits."""


@attrs.frozen
class Pause:
    """Let the workers go on for as long as so many round trips to the server take."""

    trips: int


Action: TypeAlias = Start | Add | End | Terminate | Cancel | MakeDue | Pause

TEMPERS = ["brief", "instant", "flaky", "failing", "family", "asking", "patient", "patient"]
TEMPERS += ["dawdling", "snoozing", "settling", "threaded", "attentive"]
adds = st.builds(
    Add,
    temper=st.sampled_from(TEMPERS),
    queue=st.sampled_from([None, "p", "p", "q"]),
    key=st.sampled_from([None, None, None, "k"]),
    max_attempts=st.integers(1, 3),
)
starts = st.builds(
    Start,
    concurrency=st.integers(1, 3),
    local_queue=st.sampled_from(
        [LocalQueueOptions(), LocalQueueOptions(size=3), LocalQueueOptions(size=3, ttl=0.01)]
    ),
)
actions = st.one_of(
    adds,
    adds,
    starts,
    st.builds(End, which=st.integers(0, 3), how=st.sampled_from(["stop", "cancel", "outer_cancel"])),
    st.builds(Terminate, purpose=st.sampled_from(["claim", "outcomes", "listen", "lease"])),
    st.builds(Cancel, last=st.integers(1, 3), outcome=st.sampled_from(["fail", "return"])),
    st.builds(MakeDue),
    st.builds(Pause, trips=st.integers(1, 20)),
)
scripts = st.builds(
    lambda first, start, rest: [*first, start, *rest],
    st.lists(adds, min_size=1, max_size=6),
    starts,
    st.lists(actions, min_size=3, max_size=14),
)
"""There is something to do and somebody to do it before anything else happens."""


@attrs.define
class Journal:
    """What the handlers know of their runs. Jobs go by the number in their payload: a key changes owners."""

    running: set[int] = attrs.field(factory=set)
    busy_queues: set[str | None] = attrs.field(factory=set)
    finished: Counter[int] = attrs.field(factory=Counter)
    raised: Counter[int] = attrs.field(factory=Counter)
    snoozed: Counter[int] = attrs.field(factory=Counter)
    violations: list[str] = attrs.field(factory=list)
    release: trio.Event = attrs.field(factory=trio.Event)

    @contextlib.contextmanager
    def handling(self, job: Job) -> Iterator[None]:
        number = self.start(job)
        try:
            yield
            self.finished[number] += 1
        except RuntimeError:
            self.raised[number] += 1
            raise
        except Snooze:
            self.snoozed[number] += 1
            raise
        finally:
            self.end(job)

    @contextlib.contextmanager
    def handling_in_thread(self, job: Job) -> Iterator[None]:
        """As `handling`; the journal is kept in the thread of Trio."""
        number = trio.from_thread.run_sync(self.start, job)
        try:
            yield
            self.finished[number] += 1
        finally:
            trio.from_thread.run_sync(self.end, job)

    def start(self, job: Job) -> int:
        number: int = job.payload["number"]
        queues = {job.queue_name} - {None}
        if number in self.running:
            self.violations.append(f"job {number} runs twice at once")
        if queues & self.busy_queues:
            self.violations.append(f"queue {job.queue_name} overlaps at job {number}")
        self.running.add(number)
        self.busy_queues |= queues
        return number

    def end(self, job: Job) -> None:
        if job.payload["number"] in self.running:
            self.running.discard(job.payload["number"])
            self.busy_queues.discard(job.queue_name)


def make_tasks(journal: Journal) -> TaskRegistry:
    tasks = TaskRegistry()
    add_tempers(tasks, journal.handling)
    add_threaded(tasks, journal.handling_in_thread)

    @tasks.task("brief")
    async def brief(context: JobContext) -> None:
        with journal.handling(context.job):
            for _ in range(10):
                await trio.lowlevel.checkpoint()

    @tasks.task("flaky")
    async def flaky(context: JobContext) -> None:
        with journal.handling(context.job):
            await trio.lowlevel.checkpoint()
            if context.attempt == 1:
                raise RuntimeError("as it should")

    @tasks.task("patient")
    async def patient(context: JobContext) -> None:
        with journal.handling(context.job):
            await journal.release.wait()

    add_controlled(tasks, journal)
    return tasks


def add_controlled(tasks: TaskRegistry, journal: Journal) -> None:
    @tasks.task("dawdling", timeout=0.01)
    async def dawdling(context: JobContext) -> None:
        with journal.handling(context.job):
            if context.attempt == 1:
                await trio.sleep_forever()

    @tasks.task("snoozing")
    async def snoozing(context: JobContext) -> None:
        with journal.handling(context.job):
            if context.attempt != 1:
                journal.violations.append("a snooze used up an attempt")
            if not journal.snoozed[context.job.payload["number"]]:
                raise Snooze(600)

    @tasks.task("settling")
    async def settling(context: JobContext) -> None:
        """What it writes can be written once only."""
        number = journal.start(context.job)
        try:
            async with context.complete_in_transaction() as connection:
                await connection.execute("insert into public.done (number) values ($1::integer)", number)
                journal.end(context.job)  # the commit lets the next job of a queue begin
        finally:
            journal.end(context.job)

    @tasks.task("attentive")
    def attentive(context: JobContext) -> None:
        with journal.handling_in_thread(context.job):
            while not journal.release.is_set():
                trio.from_thread.check_cancelled()
                threading.Event().wait(0.001)


@attrs.define(eq=False)
class Member:
    """A worker of the fleet."""

    worker: Worker
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)  # noqa: TID251  # cancelled, not shielded
    report: ShutdownReport | None = None

    def end(self, how: Literal["stop", "cancel", "outer_cancel"]) -> None:
        match how:
            case "stop":
                self.worker.stop()
            case "cancel":
                self.worker.cancel()
            case "outer_cancel":
                self.scope.cancel()
            case _:
                assert_never(how)


@attrs.define
class Play:
    """One example."""

    database: Database
    journal: Journal = attrs.field(factory=Journal)
    added: dict[int, Add] = attrs.field(factory=dict)
    cancelled: set[int] = attrs.field(factory=set)
    members: list[Member] = attrs.field(factory=list)
    tasks: TaskRegistry = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tasks = make_tasks(self.journal)

    async def perform(self, script: list[Action]) -> None:
        await self.database.execute(EMPTY)
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for action in script:
                    await self._act(action, nursery)
                for member in self.members:
                    member.end("stop")
            await self._finish()
        await self._check()

    async def _act(self, action: Action, nursery: trio.Nursery) -> None:
        match action:
            case Start():
                await nursery.start(self._work, action)
            case Add(temper, queue, key, max_attempts):
                number = len(self.added)
                self.added[number] = action
                spec = JobSpec(queue_name=queue, job_key=key, max_attempts=max_attempts)
                await Client(self.database).add_raw_job(temper, {"number": number}, spec)
            case End(which, how):
                if self.members:
                    self.members[which % len(self.members)].end(how)
            case Terminate(purpose):
                await self.database.fetch(TERMINATE, purpose)
            case Cancel(last, outcome):
                await self._cancel(range(len(self.added))[-last:], outcome)
            case MakeDue():
                await self.database.execute(MAKE_DUE)
            case Pause(trips):
                for _ in range(trips):
                    await self.database.fetch_value("select 1")
            case _:
                assert_never(action)

    async def _cancel(self, numbers: Sequence[int], outcome: Literal["fail", "return"]) -> None:
        sql = """
            select id
            from graphile_worker._private_jobs
            where (payload ->> 'number')::integer = any($1::integer[])
        """
        ids = [row["id"] for row in await self.database.fetch(sql, [*numbers])]
        cancelled = await Client(self.database).cancel_jobs(ids, outcome=outcome, reason=REASON)
        assert not cancelled.jobs or outcome == "fail"
        if outcome == "fail":
            self.cancelled |= {*numbers}

    async def _work(
        self, start: Start, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        options = WorkerOptions(
            concurrency=start.concurrency,
            local_queue=start.local_queue,
            shutdown=SHUTDOWN,
            poll_interval=0.05,
        )
        member = Member(Worker(self.database, self.tasks, options))
        self.members.append(member)
        with member.scope:
            member.report = await member.worker.run(task_status=task_status)
        assert member.worker.worker_id not in {holder for _, holder in await locks(self.database)}
        if member.report is not None:
            assert member.report.lost == 0

    async def _finish(self) -> None:
        """Run what is left, until nobody wants to run any more."""
        assert not self.journal.running, "a handler outlived its worker"
        assert not await locks(self.database)
        self.journal.release.set()
        while True:
            await self.database.execute(MAKE_DUE)
            report = await Worker(self.database, self.tasks, WorkerOptions(concurrency=2)).run_once()
            assert report.lost == report.returned == 0
            if report.completed == report.failed == report.snoozed == 0:
                return

    async def _check(self) -> None:
        """Each job was done once or tried as often as it may be; one that was replaced, at most."""
        rows = await self.database.fetch("""
            select (payload ->> 'number')::integer as number, attempts, max_attempts, last_error
            from graphile_worker._private_jobs
        """)
        assert not await locks(self.database)
        assert not self.journal.violations, self.journal.violations
        left = {row["number"]: row for row in rows}
        assert len(left) == len(rows)
        for row in await self.database.fetch("select number from public.done"):
            self.journal.finished[row["number"]] += 1
        last_of_key = {add.key: number for number, add in self.added.items()}
        for number, add in self.added.items():
            if add.key is not None and last_of_key[add.key] != number:
                assert self.journal.finished[number] <= 1
                assert number not in left or left[number]["attempts"] == left[number]["max_attempts"]
                continue
            if number in left and left[number]["last_error"] == REASON:
                assert number in self.cancelled
                assert left[number]["attempts"] == left[number]["max_attempts"]
                assert self.journal.finished[number] == 0
                continue
            failures = {"failing": add.max_attempts, "flaky": 1, "dawdling": 1}.get(add.temper, 0)
            if add.temper != "dawdling":  # which cannot tell its timeout from the end of its worker
                assert self.journal.raised[number] == failures, (number, add)
            assert self.journal.snoozed[number] == (add.temper == "snoozing")
            spent = failures == add.max_attempts
            assert self.journal.finished[number] == (0 if spent else 1), (number, add)
            assert (number in left) is spent
            if spent:
                assert left[number]["attempts"] == failures
                error = "TimeoutError" if add.temper == "dawdling" else "RuntimeError: as it should ("
                assert left[number]["last_error"].startswith(error)


@pytest.mark.timeout(1800)  # to shorten an example that fails takes minutes
def test_whatever_the_script_every_job_is_done_once(portal: Portal, request: pytest.FixtureRequest) -> None:
    examples = 1000 if request.config.getoption("--exhaustive") else 30
    examples = Share.of_run(request.config).count(examples)

    @settings(
        max_examples=examples,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(script=scripts)
    def play(script: list[Action]) -> None:
        portal(Play(portal.database).perform, script)

    play()
