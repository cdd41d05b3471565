"""One handler, called as a worker calls it, with no queue."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import pytest
import trio

from tests.worker.process_tasks import tasks as process_tasks
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    JobContext,
    JobSpec,
    OptionInvalid,
    PayloadInvalid,
    PermanentFailure,
    RetryAfter,
    Snooze,
    State,
    StateMissing,
    TaskRegistry,
    current_job,
)
from trio_graphile.testing import RunFailed, added_jobs, run_job

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Import:
    file: str
    line: int = 0


@tasks.task("import", retry=[10, 20])
async def import_file(payload: Import, context: JobContext) -> None:
    context.report("half")
    context.checkpoint(attrs.evolve(payload, line=7))
    match payload.file:
        case "later":
            raise Snooze(60)
        case "bad":
            raise ValueError("no such luck")
        case "hopeless":
            raise PermanentFailure("never")
        case "busy":
            raise RetryAfter(5)
        case "long":
            await trio.sleep_forever()
        case _:
            pass


async def handle() -> None: ...


async def test_a_handler_that_returns_has_completed() -> None:
    seen: list[object] = []

    @TaskRegistry().task("greet", queue_name="mail")
    async def greet(payload: Import, context: JobContext) -> None:
        assert current_job() is context.job
        seen.extend([payload, context.attempt, context.job.queue_name, context.job.key, context.state])

    run = await run_job(greet, Import(file="a"), JobSpec(job_key="k"), attempt=3, state="all")
    assert seen == [Import(file="a"), 3, "mail", "k", "all"]
    assert (run.outcome, run.task, run.error, run.last_error) == ("completed", "greet", None, None)
    assert current_job() is None


async def test_checkpoints_and_progress_come_back_as_values() -> None:
    run = await run_job(import_file, Import(file="later"))
    assert (run.outcome, run.delay, run.error) == ("snoozed", 60, None)
    assert run.checkpoint == Import(file="later", line=7)
    assert run.progress == "half"
    assert (await run_job(import_file, Import(file="good"))).checkpoint is None


async def test_a_failure_is_raised_as_the_handler_raised_it() -> None:
    with pytest.raises(ValueError, match="no such luck") as raised:
        await run_job(import_file, Import(file="bad"))
    assert raised.traceback[-1].name == "import_file"
    assert raised.value.__notes__ == ["job 1 (import) failed, attempt 1 of 25"]


async def test_a_failure_may_come_back_as_a_value() -> None:
    run = await run_job(import_file, Import(file="bad"), attempt=2, raise_failures=False)
    assert (run.outcome, run.delay, run.is_permanent) == ("failed", 20, False)
    assert isinstance(run.error, ValueError)
    assert run.last_error is not None
    assert run.last_error.startswith("ValueError: no such luck (")
    assert run.checkpoint == Import(file="bad", line=7)


@pytest.mark.parametrize(
    ("file", "attempt", "fate"),
    [("hopeless", 1, (None, True)), ("busy", 1, (5, False)), ("bad", 25, (None, True))],
)
async def test_a_failure_says_whether_it_is_tried_again(
    file: str, attempt: int, fate: tuple[float | None, bool]
) -> None:
    run = await run_job(import_file, Import(file=file), attempt=attempt, raise_failures=False)
    assert (run.outcome, (run.delay, run.is_permanent)) == ("failed", fate)


async def test_a_handler_is_interrupted_as_at_the_end_of_its_worker() -> None:
    interrupt = trio.Event()
    interrupt.set()
    with trio.fail_after(10):
        run = await run_job(import_file, Import(file="long"), interrupt=interrupt)
    assert (run.outcome, run.checkpoint) == ("returned", Import(file="long", line=7))


async def test_a_failure_beside_an_interruption_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="no such luck"):
        await run_job(import_file, Import(file="bad"), interrupt=trio.Event())


async def test_a_handler_sees_that_its_worker_stops() -> None:
    @TaskRegistry().task("polite")
    async def polite(context: JobContext) -> None:
        await context.stopping.wait()

    stopping = trio.Event()
    stopping.set()
    with trio.fail_after(10):
        assert (await run_job(polite, None, stopping=stopping)).outcome == "completed"


async def test_a_timeout_is_a_failure_without_an_exception() -> None:
    @TaskRegistry().task("slow", timeout=0.01)
    async def slow() -> None:
        await trio.sleep_forever()

    with trio.fail_after(10), pytest.raises(RunFailed, match=r"longer than its timeout of 0.01 s"):
        await run_job(slow, None)


async def test_a_cancellation_passes_through() -> None:
    with trio.move_on_after(0.05) as scope:
        await run_job(import_file, Import(file="long"))
    assert scope.cancelled_caught


async def test_a_plain_function_runs_in_a_thread() -> None:
    threads: list[int] = []

    @TaskRegistry().task("threaded")
    def threaded() -> None:
        threads.append(threading.get_ident())

    await run_job(threaded, None)
    assert threads != [threading.get_ident()]


async def test_a_handler_in_a_process_runs_in_a_process() -> None:
    with trio.fail_after(60):
        run = await run_job(process_tasks["sleepy"], None)
        assert (run.outcome, run.delay) == ("snoozed", 1000)
        with pytest.raises(RunFailed, match="no such luck with 6 letters"):
            await run_job(process_tasks["unlucky"], {"password": "secret"})


async def test_a_batch_says_which_items_would_be_tried_again() -> None:
    @TaskRegistry().batch_task("batch")
    async def batch(items: list[int]) -> list[BaseException | None]:
        return [None if item else ValueError("zero") for item in items]

    run = await run_job(batch, [1, 0, 2], raise_failures=False)
    assert (run.outcome, run.checkpoint) == ("failed", [0])


async def test_what_a_worker_would_refuse_is_refused() -> None:
    with pytest.raises(PayloadInvalid):
        await run_job(import_file, Import(file=1))  # type: ignore[arg-type]

    @TaskRegistry().task("needy", needs=[Import])
    async def needy(context: JobContext) -> None:
        assert context.get(Import).file == "a"

    with pytest.raises(StateMissing):
        await run_job(needy, None)
    await run_job(needy, None, state=State(Import(file="a")))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("import", r"not the string 'import': a registry returns it, as in tasks\[identifier\]"),
        (handle, "not handle itself"),
        (None, "not None"),
    ],
)
async def test_what_is_no_task_is_refused(task: Any, reason: str) -> None:
    with pytest.raises(OptionInvalid, match=rf"^task: a task is needed, .*{reason}"):
        await run_job(task, None)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("spec", {"priority": 1}, "JobSpec"),
        ("attempt", "2", "int"),
        ("stopping", True, "Event"),
        ("interrupt", True, "Event"),
    ],
)
async def test_another_kind_of_value_is_refused(option: str, value: object, kind: str) -> None:
    arguments: dict[str, Any] = {option: value}
    with pytest.raises(OptionInvalid, match=rf"^{option}: an? {kind} is needed, .*{type(value).__name__}$"):
        await run_job(import_file, Import(file="a"), **arguments)


@TaskRegistry().task("parent")
async def parent(context: JobContext) -> None:
    await context.client.add_job(import_file, Import(file="child"))


async def test_a_handler_that_wants_the_database_is_told_that_there_is_none() -> None:
    with pytest.raises(DatabaseError, match="there is no database here"):
        await run_job(parent, None)


async def test_a_database_can_be_lent(database: Database) -> None:
    await run_job(parent, None, database=database)
    [added] = await added_jobs(Client(database), import_file)
    assert added.payload == Import(file="child")


async def test_a_handler_can_run_asyncio_code_without_a_database() -> None:
    import asyncio  # noqa: PLC0415, TID251

    @TaskRegistry().task("foreign")
    async def foreign(context: JobContext) -> None:
        await context.run_asyncio(asyncio.sleep, 0)

    with trio.fail_after(10):
        assert (await run_job(foreign, None)).outcome == "completed"
