"""Application state by type: what is found, what is not, and what is said about that."""

from __future__ import annotations

from typing import Any

import pytest

from trio_graphile import (
    Client,
    Database,
    JobContext,
    OptionInvalid,
    State,
    StateMissing,
    TaskInvalid,
    TaskRegistry,
    Worker,
)
from trio_graphile._model.app_state import find_state


class Mailer:
    pass


class FakeMailer(Mailer):
    pass


class Settings:
    pass


def test_each_value_is_found_by_its_type() -> None:
    mailer, settings = Mailer(), Settings()
    state = State(mailer, settings, 7)
    assert state.get(Mailer) is mailer
    assert state.get(Settings) is settings
    assert state.get(int) == 7


def test_a_single_value_needs_no_collection() -> None:
    mailer = Mailer()
    assert find_state(mailer, Mailer) is mailer


def test_a_subclass_stands_in_for_its_class() -> None:
    fake = FakeMailer()
    assert State(fake).get(Mailer) is fake
    assert find_state(fake, Mailer) is fake


def test_the_exact_type_comes_first() -> None:
    mailer, fake = Mailer(), FakeMailer()
    state = State(fake, mailer)
    assert state.get(Mailer) is mailer
    assert state.get(FakeMailer) is fake


@pytest.mark.parametrize("state", [None, State(), State(Settings()), Settings()])
def test_what_is_missing_is_named_with_the_way_out(state: object) -> None:
    with pytest.raises(StateMissing, match=r"no Mailer: make it with `Worker\(\.\.\., state=State") as raised:
        find_state(state, Mailer)
    assert raised.value.wanted is Mailer
    assert isinstance(raised.value, LookupError)


def test_what_could_be_either_is_neither() -> None:
    class Other(Mailer):
        pass

    with pytest.raises(StateMissing, match=r"more than one Mailer, FakeMailer and .*Other"):
        State(FakeMailer(), Other()).get(Mailer)


@pytest.mark.parametrize("state", [Mailer(), State(Mailer())])
def test_what_is_no_type_is_said_to_be_none(state: object) -> None:
    nothing: Any = "Mailer"
    with pytest.raises(TypeError, match=r"isinstance\(\)"):
        find_state(state, nothing)
    either: Any = int | str
    with pytest.raises(StateMissing, match=r"the worker has no int \| str: make it"):
        find_state(state, either)


def test_two_values_of_one_type_are_refused() -> None:
    with pytest.raises(OptionInvalid, match=r"^state: one value of each type is right, not Mailer, Mailer"):
        State(Mailer(), Mailer())


async def test_what_a_task_needs_is_looked_for_when_the_worker_is_made(database: Database) -> None:
    tasks = TaskRegistry()

    @tasks.task("send", needs=[Mailer, Settings])
    async def send(context: JobContext) -> None: ...

    with pytest.raises(StateMissing, match=r"^task 'send': the worker has no Settings"):
        Worker(database, tasks, state=State(Mailer()))
    Worker(database, tasks, state=State(FakeMailer(), Settings()))


async def test_and_when_it_starts_for_tasks_that_came_later(database: Database) -> None:
    tasks = TaskRegistry()
    worker = Worker(database, tasks)

    @tasks.task("send", needs=[Mailer])
    async def send(context: JobContext) -> None: ...

    with pytest.raises(StateMissing, match="task 'send'"):
        await worker.run_once()


@pytest.mark.parametrize("needs", [Mailer, ["Mailer"], [None]])
def test_needs_are_types(needs: object) -> None:
    with pytest.raises(OptionInvalid, match=r"^needs: a list of types is right"):
        TaskRegistry().task("send", needs=needs)  # type: ignore[arg-type]


def test_a_process_needs_nothing_of_its_worker() -> None:
    with pytest.raises(TaskInvalid, match="leave out `needs`"):
        TaskRegistry().task("compute", lane="process", needs=[Mailer])(compute)


def compute(payload: int) -> None: ...


async def test_handlers_share_it(database: Database) -> None:
    """A counter that jobs count up is seen outside."""
    tasks, seen = TaskRegistry(), list[object]()

    class Counter:
        count = 0

    @tasks.task("count", needs=[Counter])
    async def count(context: JobContext) -> None:
        context.get(Counter).count += 1

    @tasks.task("look")
    def look(context: JobContext) -> None:
        seen.append(context.get(Counter))

    counter = Counter()
    await Client(database).add_raw_jobs([("count", None)] * 3 + [("look", None)])
    report = await Worker(database, tasks, state=State(counter, "text")).run_once()
    assert report.completed == 4
    assert counter.count == 3
    assert seen == [counter]


async def test_a_handler_that_asks_for_what_is_missing_fails(database: Database) -> None:
    tasks = TaskRegistry()

    @tasks.task("send")
    async def send(context: JobContext) -> None:
        context.get(Mailer)

    await Client(database).add_raw_job("send")
    await Worker(database, tasks).run_once()
    error = await database.fetch_value("select last_error from graphile_worker._private_jobs")
    assert error.startswith("StateMissing: the worker has no Mailer")
