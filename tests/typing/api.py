"""The API as a user types it. Nothing here runs: mypy and pyright read it.

A line that must be an error carries the ignore comments of both; where the error goes missing, the comment is
unused, and that is an error too.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, assert_type

import attrs
import trio

import trio_graphile
from trio_graphile import (
    AbandonedThread,
    ActiveWorker,
    AddedJobs,
    Backlog,
    CancelledJobs,
    Cleanup,
    Client,
    Connection,
    Cron,
    CronItem,
    CronOptions,
    CrontabInvalid,
    CrontabMistake,
    Database,
    Job,
    JobClient,
    JobContext,
    JobCounts,
    JobFilter,
    JobKeyMode,
    JobPage,
    JobSpec,
    JobState,
    ListedJob,
    ListenState,
    ObserverOptions,
    PermanentFailure,
    ProcessOptions,
    QueueStatus,
    RecoveryOptions,
    RetryAfter,
    RunningJobStatistics,
    ShutdownOptions,
    ShutdownReport,
    SkippedJob,
    Snooze,
    State,
    SweepReport,
    Task,
    TaskOptions,
    TaskRegistry,
    TaskStatus,
    Worker,
    WorkerOptions,
    WorkerPhase,
    WorkerStatistics,
    WorkerStatus,
    current_job,
    format_crontab,
    parse_crontab,
    stop_on_signals,
)
from trio_graphile.hooks import (
    Addition,
    Continue,
    Event,
    Fail,
    FailWithBackoff,
    Hooks,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobRun,
    JobRunEnd,
    JobToAdd,
    JobToRecover,
    Reschedule,
    Rewrite,
    Skip,
    WorkerEnded,
)
from trio_graphile.plugins.logging import Logging
from trio_graphile.plugins.opentelemetry import OpenTelemetry
from trio_graphile.plugins.pages import HealthOptions, health_pages, serve_pages
from trio_graphile.plugins.prometheus import Prometheus
from trio_graphile.testing import (
    EndedRun,
    FinishedRun,
    Observed,
    PointsTried,
    RunOutcome,
    WaitingJob,
    added_jobs,
    assert_added,
    end_at_every_point,
    run_job,
    run_until_empty,
)

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"


@attrs.frozen(kw_only=True)
class Resize:
    path: str


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome, context: JobContext) -> None:
    assert_type(context.job, Job)
    await trio.lowlevel.checkpoint()


@tasks.task("forget")
async def forget(payload: int) -> None: ...


@tasks.task("resize")
async def resize(payload: Resize) -> None: ...


@tasks.task("index")
async def index(payload: list[int]) -> None: ...


@tasks.task("tick")
async def tick() -> None: ...


@tasks.task("tock")
async def tock(context: JobContext) -> None: ...


assert_type(send_welcome, Task[Welcome])
assert_type(forget, Task[int])
assert_type(resize, Task[Resize])
assert_type(tick, Task[None])
assert_type(tock, Task[None])


@tasks.task("three")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def three(payload: int, context: JobContext, more: str) -> None: ...


# --- plain functions ----------------------------------------------------------------------------


@tasks.task("rotate", timeout=30, concurrency=2, retry=[1, 10.5], on_replaced="cancel")
def rotate(payload: Resize, context: JobContext) -> None:
    trio.from_thread.check_cancelled()
    assert_type(context.run(look_up, payload.path, 3), str)
    context.run(look_up, payload.path, "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    context.run(look_up, payload.path)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(context.run(context.client.add_job, forget, 1), Job)


@tasks.task("compute", lane="process", retry=lambda attempt: attempt * 2.0)
def compute(payload: int) -> None:
    assert_type(current_job(), Job | None)


@tasks.task("beat")
def beat() -> None: ...


@tasks.task("heed")
def heed(context: JobContext) -> None: ...


async def look_up(path: str, tries: int) -> str:
    await trio.lowlevel.checkpoint()
    return path * tries


assert_type(rotate, Task[Resize])
assert_type(compute, Task[int])
assert_type(beat, Task[None])
assert_type(heed, Task[None])


# --- settings -----------------------------------------------------------------------------------

tasks.task("a", time_out=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
tasks.task("b", timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tasks.task("c", lane="fork")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tasks.task("d", concurrency=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tasks.task("e", retry=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tasks.task("f", on_replaced="stop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
tasks.batch_task("g", max_attempt=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
tasks.batch_task("h", priority="high")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
TaskOptions(lane="thread", timeout=1, on_invalid_payload="fail", queue_name="q", max_attempts=3, priority=-1)
assert_type(rotate.options, TaskOptions)


# --- batches ------------------------------------------------------------------------------------


@tasks.batch_task("mail")
async def mail(items: list[Welcome]) -> list[BaseException | None]:
    await trio.lowlevel.checkpoint()
    return [None if item.to else ValueError("nobody") for item in items]


@tasks.batch_task("mail_in_context", timeout=60)
async def mail_in_context(items: list[Welcome], context: JobContext) -> list[Exception | None]:
    await trio.lowlevel.checkpoint()
    return [None for _ in items]


@tasks.batch_task("mail_all_or_none")
async def mail_all_or_none(items: list[Welcome]) -> None: ...


@tasks.batch_task("sum", lane="process")
def add_up(items: list[int]) -> list[BaseException | None]:
    return [None for _ in items]


@tasks.batch_task("sum_in_context")
def add_up_in_context(items: list[int], context: JobContext) -> None: ...


@tasks.batch_task("sum_wrongly")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def add_up_wrongly(items: list[int]) -> list[int]:
    return items


@tasks.batch_task("one_by_one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def one_by_one(item: int) -> None: ...


assert_type(mail, Task[list[Welcome]])
assert_type(mail_in_context, Task[list[Welcome]])
assert_type(mail_all_or_none, Task[list[Welcome]])
assert_type(add_up, Task[list[int]])
assert_type(add_up_in_context, Task[list[int]])


async def add_batches(client: Client) -> None:
    assert_type(await client.add_batch_job(mail, [Welcome(to="ada")], JobSpec(job_key="mail")), Job)
    await client.add_job(add_up, [1, 2])
    await client.add_batch_job(mail, [1])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.add_batch_job(mail, Welcome(to="ada"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.add_job(mail, Welcome(to="ada"))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.add_job(add_up, ["1"])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


# --- what a handler is lent ---------------------------------------------------------------------


async def use(context: JobContext) -> None:
    assert_type(context.attempt, int)
    assert_type(context.stopping, trio.Event)
    context.report({"done": 1})
    context.checkpoint(Resize(path="a.png"))
    context.logger.info("half of it is done", extra={"more": 1})
    assert_type(await context.run_asyncio(look_up, "a.png", 3), str)
    await context.run_asyncio(look_up, "a.png", "3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async with context.complete_in_transaction() as connection:
        assert_type(connection, Connection)
        assert_type(await context.client.using(connection).add_job(forget, 1), Job)
    async with context.complete_in_transaction("serializable"):
        pass
    context.complete_in_transaction("chaos")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def give_up(seconds: float) -> None:
    if seconds < 0:
        raise PermanentFailure("too late")
    if seconds < 60:
        raise Snooze(seconds)
    raise RetryAfter(seconds, "the other side is busy")


RetryAfter("60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- the client ---------------------------------------------------------------------------------


async def add(database: trio_graphile.Database) -> None:
    client = Client(database, tasks)

    assert_type(await client.add_job(send_welcome, Welcome(to="ada@example.org")), Job)
    await client.add_job(
        send_welcome,
        Welcome(to="ada@example.org"),
        JobSpec(job_key="welcome:ada", job_key_mode=JobKeyMode.PRESERVE_RUN_AT, priority=0, flags=["smtp"]),
    )
    await client.add_job(forget, 1)

    # The payload of another task.
    await client.add_job(send_welcome, Resize(path="a.png"))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.add_job(forget, "1")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    # An identifier is not a task; that is what add_raw_job is for.
    await client.add_job("send_welcome", Welcome(to="ada@example.org"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.add_raw_job("resize_in_node", {"path": "a.png"})
    await client.add_raw_job("resize_in_node", {"path": "a.png"}, JobSpec(queue_name="images"))


async def add_many(client: Client) -> None:
    added = await client.add_jobs([(send_welcome, Welcome(to=to)) for to in ("ada", "grace")])
    for job in added:
        assert_type(job, Job)
    await client.add_jobs([(send_welcome, Welcome(to="ada"), JobSpec(priority=1))])
    await client.add_raw_jobs([("a", 1), ("b", {"n": 2}, JobSpec(priority=1))])
    await client.add_batch_job(index, [1, 2])
    await client.add_batch_job(index, ["a"])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await client.add_batch_job(forget, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.add_jobs([(send_welcome, 5)])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


async def add_in_a_transaction(client: Client, database: trio_graphile.Database) -> None:
    async with database.transaction() as connection:
        assert_type(client.using(connection), JobClient)
        await client.using(connection).add_job(send_welcome, Welcome(to="ada@example.org"))
        # What takes a transaction of its own cannot be done in yours.
        await client.using(connection).migrate()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        await client.using(connection).cleanup()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


async def change(client: Client) -> None:
    changed = await client.reschedule_jobs([1, 2], priority=0)
    assert_type(changed.jobs, tuple[Job, ...])
    assert_type(changed.skipped_ids, tuple[int, ...])
    assert_type(await client.remove_job("welcome:ada"), Job | None)
    assert_type(await client.cleanup(Cleanup), dict[Cleanup, int])
    assert_type(await client.list_active_workers(), list[ActiveWorker])
    assert_type(await client.sweep_stale_workers(60, dry_run=True), SweepReport)


async def look(client: Client, connection: Connection) -> None:
    which: JobFilter | None = JobFilter(task_identifier="send_welcome", state=JobState.FAILED, flags=["slow"])
    while which is not None:
        page = await client.jobs(which)
        assert_type(page, JobPage)
        assert_type(page.jobs, tuple[ListedJob, ...])
        which = page.next
    assert_type((await client.jobs()).jobs[0].job, Job)
    assert_type((await client.jobs()).jobs[0].state, JobState)
    assert_type(await client.job(1), ListedJob | None)
    assert_type(await client.queues(), list[QueueStatus])
    tasks = await client.known_tasks()
    assert_type(tasks, list[TaskStatus])
    assert_type(tasks[0].counts, JobCounts)
    workers = await client.using(connection).workers(60)
    assert_type(workers, list[WorkerStatus])
    assert_type(workers[0].registration, ActiveWorker | None)
    await client.job("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.jobs(state="failed")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    JobFilter(limit="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def cancel(client: Client, connection: Connection) -> None:
    cancelled = await client.cancel_jobs([1, 2], reason="not wanted")
    assert_type(cancelled, CancelledJobs)
    assert_type(cancelled.jobs, tuple[Job, ...])
    assert_type(cancelled.requested_ids, tuple[int, ...])
    assert_type(cancelled.skipped_ids, tuple[int, ...])
    await client.using(connection).cancel_jobs([1], outcome="return")
    await client.cancel_jobs([1], outcome="retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.cancel_jobs(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- recurring jobs -----------------------------------------------------------------------------

assert_type(Cron.daily_at(tick, hour=8, minute=30, zone="Europe/Paris"), CronItem)
assert_type(Cron.daily_at(resize, hour=8, payload=Resize(path="a.png")), CronItem)
Cron.every_minute(tock, identifier="often", backfill_period=3600, spec=JobSpec(priority=1))
Cron.every_minutes(send_welcome, 5, payload=Welcome(to="ada"))
Cron.hourly_at(tick, minute=5)
Cron.weekly_on(tick, "sun", hour=8)
Cron.monthly_on(resize, 31, hour=8, payload=Resize(path="a.png"))
Cron.yearly_on(tick, 2, 29, hour=8)
Cron.from_text(resize, "0 8 * * mon-fri", payload=Resize(path="a.png"))

# The payload of another task, none where there has to be one, and one where there is none.
Cron.daily_at(resize, hour=8, payload=Welcome(to="ada"))  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
Cron.from_text(resize, "* * * * *", payload={"path": "a.png"})  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
Cron.daily_at(resize, hour=8)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Cron.daily_at(tick, hour=8, payload=1)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
Cron.daily_at(tick, hour="8")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Cron.daily_at(tick)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Cron.daily_at(tick, hour=8, tz="UTC")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
Cron.weekly_on(tick, "sunday", hour=8)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
Cron.daily_at("tick", hour=8)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def read(text: str, database: trio_graphile.Database) -> None:
    try:
        items = parse_crontab(text, source="jobs.cron")
    except CrontabInvalid as error:
        assert_type(error.mistakes, tuple[CrontabMistake, ...])
        assert_type(error.mistakes[0].line, int | None)
        return
    assert_type(items, tuple[CronItem, ...])
    assert_type(format_crontab(items), str)
    assert_type(items[0].payload, dict[str, Any])
    Worker(database, tasks, WorkerOptions(cron=CronOptions(missed_limit=1)), crontab=items)
    Worker(database, tasks, crontab=[*items, Cron.every_minute(tick)])
    Worker(database, tasks, crontab=[text])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]


# --- the worker ---------------------------------------------------------------------------------


def watch(worker: Worker) -> None:
    statistics = worker.statistics()
    assert_type(statistics, WorkerStatistics)
    assert_type(statistics.held, int)
    assert_type(statistics.unrecorded, int)
    for running in statistics.running:
        assert_type(running, RunningJobStatistics)
        assert_type(running.job, Job)
        assert_type(running.seconds, float)
        assert_type(running.progress, Any)


async def serve(url: str) -> None:
    async with trio_graphile.open_database(url) as database:
        assert_type(database, trio_graphile.Database)
        options = WorkerOptions(concurrency=20, shutdown=ShutdownOptions(grace_period=5))
        worker = Worker(database, tasks, options)
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            nursery.start_soon(stop_on_signals, worker)
            worker.stop()
        report = await worker.run_once()
        assert_type(report.completed, int)
        assert_type(report.snoozed, int)
        assert_type(report.abandoned, tuple[AbandonedThread, ...])


WorkerOptions(concurrency="20")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(recovery=RecoveryOptions(sweep_threshold=120, resilient_flags=["patient"]))
WorkerOptions(recovery=None)
WorkerOptions(processes=ProcessOptions(count=2, jobs_per_process=100, prestart=True))
WorkerOptions(processes=2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(recovery=False)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
WorkerOptions(20)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JobSpec(jobkey="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JobSpec(job_key_mode="replace")


# --- hooks --------------------------------------------------------------------------------------


def on_completed(event: JobCompleted) -> None:
    assert_type(event.job, Job)
    assert_type(event.duration, float)


async def on_failed(event: JobFailed) -> None:
    assert_type(event.error, str)
    assert_type(event.retry_in, float | None)


def on_anything(event: Event) -> None: ...


def on_either(event: JobCompleted | JobFailed) -> None: ...


async def before_run(run: JobRun) -> Skip | Fail | None:
    assert_type(run.job, Job)
    await trio.lowlevel.checkpoint()
    return Fail("closed", permanent=True) if run.job.attempts > 3 else None


def after_run(end: JobRunEnd) -> Continue:
    assert_type(end.error, str | None)
    return Continue()


def before_schedule(job: JobToAdd) -> Rewrite:
    return Rewrite({"payload": job.payload, "by": job.spec.job_key})


def recover(job: JobToRecover) -> Reschedule | FailWithBackoff | Skip | None:
    assert_type(job.previous_worker_id, str)
    return FailWithBackoff()


@contextmanager
def around_run(run: JobRun) -> Generator[None]:
    yield


@contextmanager
def around_schedule(addition: Addition) -> Generator[None]:
    assert_type(addition.identifiers, tuple[str, ...])
    yield


def register(hooks: Hooks) -> None:
    hooks.on(JobCompleted, on_completed)
    hooks.on(JobFailed, on_failed)
    hooks.on(JobCompleted, on_anything)
    hooks.on(JobCompleted, on_either)
    hooks.on(JobFailed, on_either)
    hooks.on(JobEvent, on_either)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.on(JobEvent, lambda event: event.job.id)
    hooks.on(WorkerEnded, lambda event: event.cause)
    hooks.before_job_run(before_run)
    hooks.after_job_run(after_run)
    hooks.before_job_schedule(before_schedule)
    hooks.recover_job(recover)
    hooks.around_job_run(around_run)
    hooks.around_job_schedule(around_schedule)

    # The observer of another event, sync or async, and of more than one class of events knows.
    hooks.on(JobFailed, on_completed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.on(JobCompleted, on_failed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.on(Event, on_completed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.on(JobCompleted, lambda event: event.error)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
    hooks.on(Job, on_anything)  # type: ignore[arg-type, type-var]  # pyright: ignore[reportArgumentType]
    # An interceptor of something else, and one that answers what means nothing there.
    hooks.before_job_run(after_run)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.after_job_run(before_run)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.before_job_run(recover)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    hooks.before_job_run(lambda _: Rewrite(1))  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    hooks.recover_job(lambda _: Fail("no"))  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    hooks.around_job_run(before_run)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    @hooks.on(JobCompleted)
    async def decorated(event: JobCompleted) -> None: ...

    @hooks.on(JobFailed)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    def wrongly_decorated(event: JobCompleted) -> None: ...

    @hooks.before_job_run
    def asked(run: JobRun) -> None: ...


class MyPlugin:
    def register(self, hooks: Hooks) -> None:
        hooks.on(JobCompleted, self.note)
        if hooks.worker is not None:
            assert_type(hooks.worker.statistics(), WorkerStatistics)

    async def note(self, event: JobCompleted) -> None: ...


class NoPlugin:
    def register(self, hooks: int) -> None: ...


async def use_plugins(database: trio_graphile.Database) -> None:
    Worker(database, tasks, plugins=[MyPlugin(), Hooks(), Logging()])
    Worker(database, tasks, plugins=[Prometheus(), OpenTelemetry(connect="parent")])
    client = Client(database, tasks, plugins=[MyPlugin()])
    Worker(database, tasks, plugins=[NoPlugin()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Worker(database, tasks, plugins=[on_completed])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    OpenTelemetry(connect="child")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    added = await client.add_jobs([(send_welcome, Welcome(to="ada"))])
    assert_type(added, AddedJobs)
    assert_type(added[0], Job)
    assert_type(added.skipped, tuple[SkippedJob, ...])
    assert_type(await client.backlog(), Backlog)
    assert_type((await client.backlog()).oldest_ready, float | None)
    WorkerOptions(observers=ObserverOptions(timeout=1, queue_size=100))


async def serve_health(worker: Worker, nursery: trio.Nursery) -> None:
    pages = {**health_pages(worker, HealthOptions(stalled_after=5)), **Prometheus().pages()}
    await nursery.start(serve_pages, "127.0.0.1:0", pages)
    statistics = worker.statistics()
    assert_type(statistics.phase, WorkerPhase)
    assert_type(statistics.listen_state, ListenState)
    assert_type(statistics.heartbeat_age, float | None)


# --- state --------------------------------------------------------------------------------------


class Mailer:
    def send(self, to: str) -> None: ...


@tasks.task("mail_by_state", needs=[Mailer, Welcome])
async def mail_by_state(to: str, context: JobContext) -> None:
    assert_type(context.get(Mailer), Mailer)
    context.get(Mailer).send(to)
    context.get(Mailer).send(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    context.get("Mailer")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


assert_type(State(Mailer(), 7).get(int), int)
tasks.task("needs", needs=Mailer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- tests of one's own -------------------------------------------------------------------------


async def test_something(trio_graphile_database: Database, observed: Observed) -> None:
    run = await run_job(send_welcome, Welcome(to="ada"), JobSpec(priority=1), attempt=2, state=Mailer())
    assert_type(run.outcome, RunOutcome)
    assert_type(run.checkpoint, Welcome | None)
    await run_job(send_welcome, "ada")  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    assert_type(run.outcome == "completed", bool)
    runs = await run_until_empty(trio_graphile_database, tasks, until=timedelta(hours=1))
    assert_type(runs, list[FinishedRun])
    assert_type((await added_jobs(trio_graphile_database, send_welcome))[0].payload, Welcome)
    assert_type(await added_jobs(Client(trio_graphile_database)), list[WaitingJob[Any]])
    assert_type(
        await assert_added(trio_graphile_database, send_welcome, Welcome(to="ada")), WaitingJob[Welcome]
    )
    assert_type(await observed.wait_for(JobCompleted, lambda event: event.duration > 1), JobCompleted)
    await observed.wait_for(Welcome)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def end_somewhere(worker: Worker) -> None:
    async def scenario() -> Worker:
        return worker

    async def check(run: EndedRun) -> None:
        assert_type(run.report, ShutdownReport | None)

    assert_type(await end_at_every_point(scenario, check, endings=["stop"], sample=5), PointsTried)
    await end_at_every_point(scenario, check, endings=["kill"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await end_at_every_point(check, scenario)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
