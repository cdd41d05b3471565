"""The registry: what can be registered, in which order it is called, and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from trio_graphile import Client, Database, HooksFrozen, OptionInvalid, TaskRegistry, Worker
from trio_graphile._interceptors.chains import Chains
from trio_graphile.hooks import (
    Event,
    Hooks,
    JobCompleted,
    JobEvent,
    JobFailed,
    JobRun,
    Skip,
    WorkerEnded,
    WorkerStarted,
)
from trio_graphile.hooks._registry import hooks_of


def observers(hooks: Hooks, event: type[Event]) -> list[object]:
    return [hook.function for hook in Chains.of(hooks).observers_of(event)]


def one(event: Event) -> None:
    """An observer."""


def two(event: Event) -> None:
    """Another."""


async def three(event: Event) -> None:
    """And an async one."""


def test_observers_are_called_in_the_order_of_their_registration() -> None:
    hooks = Hooks()
    hooks.on(JobCompleted, two)
    hooks.on(Event, one)
    hooks.on(JobCompleted, three)
    assert observers(hooks, JobCompleted) == [two, one, three]


def test_whoever_observes_a_class_observes_the_classes_below_it() -> None:
    hooks = Hooks()
    hooks.on(JobEvent, one)
    assert observers(hooks, JobCompleted) == [one]
    assert observers(hooks, JobFailed) == [one]
    assert observers(hooks, WorkerStarted) == []


def test_an_observer_may_be_registered_twice_and_is_called_twice() -> None:
    hooks = Hooks()
    hooks.on(JobCompleted, one)
    hooks.on(JobCompleted, one)
    assert observers(hooks, JobCompleted) == [one, one]


def test_everything_can_decorate() -> None:
    hooks = Hooks()

    @hooks.on(JobCompleted)
    async def completed(event: JobCompleted) -> None: ...

    @hooks.before_job_run
    def before(run: JobRun) -> Skip | None:
        return Skip()

    assert observers(hooks, JobCompleted) == [completed]
    assert [hook.function for hook in Chains.of(hooks).before_job_run] == [before]


@pytest.mark.parametrize("event", [object, "JobCompleted", None, JobRun])
def test_only_events_can_be_observed(event: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^event: a class of events is needed, not "):
        Hooks().on(event, one)


@pytest.mark.parametrize("function", [1, "one"])
def test_only_functions_can_be_hooks(function: Any) -> None:
    with pytest.raises(OptionInvalid, match="observer of JobCompleted: a function is needed, not "):
        Hooks().on(JobCompleted, function)
    with pytest.raises(OptionInvalid, match="before_job_run: a function is needed, not "):
        Hooks().before_job_run(function)


@asynccontextmanager
async def around(run: JobRun) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("wrapper", [around, three])
def test_what_is_around_a_run_cannot_await(wrapper: Any) -> None:
    for register in (Hooks().around_job_run, Hooks().around_job_schedule):
        with pytest.raises(OptionInvalid, match=r"a plain context manager is needed, not an async one$"):
            register(wrapper)


class Late:
    """A plugin that keeps what it was given."""

    def register(self, hooks: Hooks) -> None:
        self.hooks = hooks


async def test_nothing_is_registered_once_a_worker_is_made(database: Database) -> None:
    late = Late()
    Worker(database, TaskRegistry(), plugins=[late])
    with pytest.raises(HooksFrozen, match=r"^observer of JobCompleted: too late"):
        late.hooks.on(JobCompleted, one)
    with pytest.raises(HooksFrozen, match=r"^recover_job: too late"):
        late.hooks.recover_job(lambda _: None)


async def test_nor_in_a_registry_that_was_given_as_a_plugin(database: Database) -> None:
    """It would be of no effect, without a word."""
    hooks = Hooks()
    Client(database, plugins=[hooks])
    with pytest.raises(HooksFrozen):
        hooks.on(JobCompleted, one)


async def test_a_registry_can_be_given_to_many(database: Database) -> None:
    hooks = Hooks()
    hooks.on(JobCompleted, one)
    Client(database, plugins=[hooks, hooks])
    Worker(database, TaskRegistry(), plugins=[hooks])
    assert observers(hooks_of([hooks, hooks]), JobCompleted) == [one, one]


async def test_a_plugin_knows_the_worker_it_is_for(database: Database) -> None:
    late = Late()
    worker = Worker(database, TaskRegistry(), plugins=[late])
    assert late.hooks.worker is worker
    Client(database, plugins=[late])
    assert late.hooks.worker is None


@pytest.mark.parametrize("plugin", [one, object(), Late, "logging"])
async def test_what_is_no_plugin_is_refused(database: Database, plugin: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^plugins: an object with a method register\(hooks\) is needed"):
        Worker(database, TaskRegistry(), plugins=[plugin])
    with pytest.raises(OptionInvalid, match=r"^plugins: "):
        Client(database, plugins=[plugin])


class Awaited:
    """A plugin whose hooks nobody would wait for."""

    async def register(self, hooks: Hooks) -> None: ...


async def test_a_plugin_registers_at_once(database: Database) -> None:
    plugin: Any = Awaited()
    with pytest.raises(OptionInvalid, match=r"^plugins: register of .* is async: a plain method is needed$"):
        Worker(database, TaskRegistry(), plugins=[plugin])


def test_a_hook_says_who_registered_it_for_what() -> None:
    class Mine:
        def register(self, hooks: Hooks) -> None:
            hooks.on(WorkerEnded, one)

    [hook] = hooks_of([Mine()]).entries
    assert str(hook).startswith("observer of WorkerEnded of test_a_hook_says")
    assert str(hook).endswith("Mine (one)")
    [again] = hooks_of([hooks_of([Mine()])]).entries
    assert str(again) == str(hook), "whoever passes it on did not register it"
