"""Interceptors of what is added: on every path, in their order, with all answers and mistakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trio

from tests.support.tables import payloads
from trio_graphile import (
    Client,
    Database,
    DuplicateJobKey,
    JobClient,
    JobContext,
    JobRefused,
    JobSkipped,
    JobSpec,
    PayloadInvalid,
    TaskRegistry,
    Worker,
)
from trio_graphile.hooks import Addition, Continue, Fail, Hooks, JobToAdd, Rewrite, Skip

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    by: str = "nobody"


@tasks.task("welcome", priority=3)
async def welcome(payload: Welcome) -> None: ...


@tasks.task("count")
async def count(payload: int) -> None: ...


@tasks.batch_task("index")
async def index(items: list[int]) -> None: ...


@attrs.define(eq=False)
class Interceptors:
    """Notes what it is asked; answers what the test says."""

    answers: list[Callable[[JobToAdd], Any]] = attrs.field(factory=list)
    asked: list[tuple[int, JobToAdd]] = attrs.field(factory=list)

    def register(self, hooks: Hooks) -> None:
        for number, answer in enumerate(self.answers):
            hooks.before_job_schedule(self._interceptor(number, answer))

    def _interceptor(self, number: int, answer: Callable[[JobToAdd], Any]) -> Callable[[JobToAdd], Any]:
        def ask(job: JobToAdd) -> Any:
            self.asked.append((number, job))
            return answer(job)

        return ask


def client_with(database: Database, *answers: Callable[[JobToAdd], Any]) -> tuple[Client, Interceptors]:
    interceptors = Interceptors(list(answers))
    return Client(database, tasks, plugins=[interceptors]), interceptors


def mark(text: str) -> Callable[[JobToAdd], Rewrite]:
    return lambda job: Rewrite({**job.payload, "by": job.payload.get("by", "") + text})


def goes_on(_: JobToAdd) -> Continue:
    return Continue()


def skips(_: JobToAdd) -> Skip:
    return Skip("not today")


def fails(_: JobToAdd) -> Fail:
    return Fail("never")


def raises(_: JobToAdd) -> None:
    raise LookupError("who is that")


# --- one job ------------------------------------------------------------------------------------


async def test_it_is_told_what_is_added_and_how(database: Database) -> None:
    client, interceptors = client_with(database, goes_on)
    await client.add_job(welcome, Welcome(to="ada"), JobSpec(queue_name="q"))
    await client.add_raw_job("elsewhere", [1], JobSpec(priority=-1))
    (_, typed), (_, raw) = interceptors.asked
    assert (typed.identifier, typed.payload, typed.operation) == (
        "welcome",
        {"to": "ada", "by": "nobody"},
        "add_job",
    )
    assert (typed.spec.queue_name, typed.spec.priority) == ("q", 3), "the task's own defaults are in it"
    assert (raw.identifier, raw.payload, raw.spec.priority) == ("elsewhere", [1], -1)
    assert "ada" not in repr(typed), "a payload may hold secrets"


async def test_what_it_rewrites_is_stored(database: Database) -> None:
    client, _ = client_with(database, lambda _: Rewrite({"to": "grace"}))
    job = await client.add_job(welcome, Welcome(to="ada"))
    assert job.payload == {"to": "grace"}
    assert await payloads(database) == ['{"to":"grace"}']


async def test_each_sees_what_the_one_before_made_of_it(database: Database) -> None:
    client, interceptors = client_with(database, mark("a"), goes_on, mark("b"))
    job = await client.add_raw_job("x", {"by": ""})
    assert job.payload == {"by": "ab"}
    assert [asked.payload["by"] for _, asked in interceptors.asked] == ["", "a", "a"]


async def test_an_async_one_is_waited_for(database: Database) -> None:
    async def slow(job: JobToAdd) -> Rewrite:
        await trio.lowlevel.checkpoint()
        return Rewrite(job.payload + 1)

    client, _ = client_with(database, slow)
    assert (await client.add_job(count, 1)).payload == 2


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (skips, JobSkipped, "the job for task 'count' was skipped by an interceptor: not today"),
        (fails, JobRefused, "the job for task 'count' was refused: never"),
        (raises, JobRefused, "raised LookupError: who is that"),
        (lambda _: True, JobRefused, "answered with bool; expected Continue, Rewrite, Skip or Fail"),
        (lambda _: Rewrite("one"), PayloadInvalid, "(as rewritten by before_job_schedule of Interceptors"),
        (lambda _: Rewrite(object()), PayloadInvalid, "as rewritten by"),
    ],
)
async def test_nothing_is_added_and_nobody_else_is_asked(
    database: Database, answer: Callable[[JobToAdd], Any], error: type[Exception], text: str
) -> None:
    client, interceptors = client_with(database, answer, goes_on)
    with pytest.raises(error) as raised:
        await client.add_job(count, 1)
    assert text in str(raised.value)
    assert [number for number, _ in interceptors.asked] == [0]
    assert await payloads(database) == []


async def test_what_it_raised_is_the_cause(database: Database) -> None:
    client, _ = client_with(database, raises)
    with pytest.raises(JobRefused) as raised:
        await client.add_job(count, 1)
    assert isinstance(raised.value.__cause__, LookupError)


async def test_a_group_is_a_failure_too(database: Database) -> None:
    async def family(_: JobToAdd) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)

    async def fail() -> None:
        raise ValueError("a child")

    client, _ = client_with(database, family)
    with pytest.raises(JobRefused, match="ValueError: a child"):
        await client.add_job(count, 1)


async def test_cancellation_is_not_swallowed(database: Database) -> None:
    asked = trio.Event()

    async def hangs(_: JobToAdd) -> None:
        asked.set()
        await trio.sleep_forever()

    client, _ = client_with(database, hangs, goes_on)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.add_job, count, 1)
        await asked.wait()
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught
    assert await payloads(database) == []


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"a": 1}, "a batch needs a JSON array @ $"),
        ([], "a batch needs a JSON array with at least one item @ $"),
        (["a"], "expected int"),
    ],
)
async def test_a_batch_stays_one(database: Database, payload: object, reason: str) -> None:
    client, _ = client_with(database, lambda _: Rewrite(payload))
    with pytest.raises(PayloadInvalid) as raised:
        await client.add_batch_job(index, [1])
    assert reason in str(raised.value)
    assert await payloads(database) == []


async def test_a_batch_may_be_rewritten(database: Database) -> None:
    client, interceptors = client_with(database, lambda job: Rewrite([*job.payload, 3]))
    assert (await client.add_batch_job(index, [1, 2])).payload == [1, 2, 3]
    assert interceptors.asked[0][1].operation == "add_batch_job"


# --- many jobs ----------------------------------------------------------------------------------


def skips_even(job: JobToAdd) -> Skip | None:
    return Skip(f"{job.payload} is even") if job.payload % 2 == 0 else None


async def test_of_many_the_skipped_are_left_out_and_reported(database: Database) -> None:
    client, _ = client_with(database, skips_even, lambda job: Rewrite(job.payload * 10))
    added = await client.add_jobs([(count, number) for number in range(1, 6)])
    assert [job.payload for job in added] == [10, 30, 50]
    assert [(skipped.position, skipped.identifier, skipped.reason) for skipped in added.skipped] == [
        (1, "count", "2 is even"),
        (3, "count", "4 is even"),
    ]
    assert await payloads(database) == ["10", "30", "50"]


async def test_all_may_be_skipped(database: Database) -> None:
    client, _ = client_with(database, skips)
    added = await client.add_raw_jobs([("a", 1), ("b", 2)])
    assert added == []
    assert len(added.skipped) == 2


async def test_one_that_fails_keeps_all_from_being_added(database: Database) -> None:
    client, _ = client_with(database, lambda job: Fail("odd") if job.payload == 3 else None)
    with pytest.raises(JobRefused, match="odd"):
        await client.add_jobs([(count, number) for number in range(5)])
    assert await payloads(database) == []


async def test_without_interceptors_nothing_is_skipped(database: Database) -> None:
    assert (await Client(database, tasks).add_jobs([(count, 1)])).skipped == ()


async def test_keys_are_looked_at_once_the_skipped_are_gone(database: Database) -> None:
    client, _ = client_with(database, skips_even)
    spec = JobSpec(job_key="k")
    added = await client.add_jobs([(count, 1, spec), (count, 2, spec)])
    assert len(added) == 1
    with pytest.raises(DuplicateJobKey):
        await client.add_jobs([(count, 1, spec), (count, 3, spec)])


async def test_more_than_go_into_one_statement(database: Database) -> None:
    client, _ = client_with(database, skips_even)
    added = await client.add_raw_jobs([("count", number) for number in range(10_500)])
    assert (len(added), len(added.skipped)) == (5_250, 5_250)
    assert [job.payload for job in added[:2]] == [1, 3]


# --- every path ---------------------------------------------------------------------------------

Path = Callable[[JobClient], Awaitable[object]]
PATHS: dict[str, Path] = {
    "add_job": lambda client: client.add_job(count, 1),
    "add_raw_job": lambda client: client.add_raw_job("count", 1),
    "add_jobs": lambda client: client.add_jobs([(count, 1)]),
    "add_raw_jobs": lambda client: client.add_raw_jobs([("count", 1)]),
    "add_batch_job": lambda client: client.add_batch_job(index, [1]),
}


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_asked_on_every_path_of_a_client(database: Database, path: str) -> None:
    client, interceptors = client_with(database, goes_on)
    await PATHS[path](client)
    assert len(interceptors.asked) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_and_in_a_transaction_of_somebody_else(database: Database, path: str) -> None:
    client, interceptors = client_with(database, goes_on)
    async with database.transaction() as connection:
        await PATHS[path](client.using(connection))
    assert len(interceptors.asked) == 1
    assert len(await payloads(database)) == 1


@pytest.mark.parametrize("path", PATHS)
async def test_and_in_a_handler(database: Database, path: str) -> None:
    """The worker's plugins are asked, by its handlers' client and in a transaction that completes a job."""
    registry, interceptors = TaskRegistry(), Interceptors([goes_on])

    @registry.task("parent")
    async def parent(context: JobContext) -> None:
        await PATHS[path](context.client)
        async with context.complete_in_transaction() as connection:
            await PATHS[path](context.client.using(connection))

    await Client(database).add_raw_job("parent")
    report = await Worker(database, registry, plugins=[interceptors]).run_once()
    assert report.completed == 1
    assert len(interceptors.asked) == 2
    assert len(await payloads(database)) == 2


# --- around it ----------------------------------------------------------------------------------


async def test_what_is_around_sees_all_of_it(database: Database) -> None:
    seen: list[object] = []

    class Wrapping:
        def register(self, hooks: Hooks) -> None:
            hooks.around_job_schedule(self.wrap)
            hooks.before_job_schedule(lambda job: seen.append(job.payload))

        @contextmanager
        def wrap(self, addition: Addition) -> Iterator[None]:
            seen.append((addition.operation, addition.identifiers))
            try:
                yield
            except JobSkipped as error:
                seen.append(error)
                raise
            seen.append("done")

    client = Client(database, tasks, plugins=[Wrapping()])
    await client.add_job(count, 1)
    await client.add_raw_jobs([("a", 2), ("b", 3)])
    assert seen == [("add_job", ("count",)), 1, "done", ("add_jobs", ("a", "b")), 2, 3, "done"]


async def test_what_is_around_cannot_change_what_comes_of_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy:
        def __init__(self, *, enters: bool) -> None:
            self.enters = enters

        def __enter__(self) -> None:
            if not self.enters:
                raise ValueError("cannot enter")

        def __exit__(self, *_: object) -> bool:
            raise KeyError("cannot leave")

    class Swallowing(Clumsy):
        def __exit__(self, *_: object) -> bool:
            return True

    hooks = Hooks()
    hooks.around_job_schedule(lambda _: Clumsy(enters=False))
    hooks.around_job_schedule(lambda _: Clumsy(enters=True))
    hooks.around_job_schedule(lambda _: Swallowing(enters=True))
    hooks.before_job_schedule(lambda job: Skip() if job.payload == 2 else None)
    client = Client(database, tasks, plugins=[hooks])
    await client.add_job(count, 1)
    with pytest.raises(JobSkipped):
        await client.add_job(count, 2)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ValueError,
        KeyError,
        ValueError,
        KeyError,
    ]
