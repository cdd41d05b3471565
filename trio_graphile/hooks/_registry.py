"""The registry: which hooks were registered, by which plugin, and in which order."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import attrs

from trio_graphile._exceptions import HooksFrozen, OptionInvalid
from trio_graphile._model.statistics import Backlog, WorkerStatistics
from trio_graphile.hooks._event import Event, check_event_class
from trio_graphile.hooks._questions import (
    AfterJobRun,
    AroundJobRun,
    AroundJobSchedule,
    BeforeJobRun,
    BeforeJobSchedule,
    RecoverJob,
)

EventT = TypeVar("EventT", bound=Event)
HookT = TypeVar("HookT", bound=Callable[..., object])


class Plugin(Protocol):
    """An object that registers hooks. Several workers and clients can share one plugin."""

    def register(self, hooks: Hooks, /) -> object:
        """Register observers and interceptors. Called once by each worker and client with this plugin."""
        ...


class ObservedWorker(Protocol):
    """The methods of a worker that its plugins can use."""

    @property
    def worker_id(self) -> str:
        """The text in `locked_by` of the jobs that it holds."""
        ...

    def statistics(self) -> WorkerStatistics:
        """Return what the worker is doing."""
        ...

    async def backlog(self) -> Backlog:
        """Count the jobs of the whole queue by state. Raises `DatabaseError`."""
        ...


@attrs.frozen
class Hook:
    """A registered function, with the plugin that registered it."""

    function: Callable[..., Any]
    kind: str
    """What it is called for: `before_job_run` and the like, or `observer of JobFailed`."""
    plugin: str
    """The class of the plugin."""
    event: type[Event] | None = None
    """The class of the events that an observer is called with; None for an interceptor."""

    def __str__(self) -> str:
        function = getattr(self.function, "__qualname__", None) or type(self.function).__qualname__
        return f"{self.kind} of {self.plugin} ({function})"


@attrs.define(eq=False)
class Hooks:
    """A registry of observers and interceptors, in the order of their registration.

    A worker or client passes one to its plugins. You can also make one, register functions with it, and give
    it to a worker or client as a plugin. From then on every further registration raises `HooksFrozen`.
    """

    worker: ObservedWorker | None = attrs.field(default=None, kw_only=True)
    """The worker that calls the hooks; None for a client, and in a registry that you have made."""
    _entries: list[Hook] = attrs.field(init=False, factory=list, repr=False)
    _plugin: str = attrs.field(init=False, default="hooks", repr=False)
    _frozen: bool = attrs.field(init=False, default=False, repr=False)

    @overload
    def on(
        self, event: type[EventT], observer: Callable[[EventT], object], /
    ) -> Callable[[EventT], object]: ...
    @overload
    def on(
        self, event: type[EventT], /
    ) -> Callable[[Callable[[EventT], object]], Callable[[EventT], object]]: ...
    def on(self, event: type[Event], observer: Any = None, /) -> Any:
        """Register a function, async or not, that is called with each event of a class or its subclasses.

        Returns the function, or a decorator if no function is given. A worker calls its observers one after
        the other in a Trio task of their own, so that no job waits for them. A client emits no events. Raises
        `OptionInvalid` for a class that is not one of events, and `HooksFrozen`.
        """
        check_event_class("event", event)
        if observer is None:
            return lambda function: self.on(event, function)
        self._add(observer, f"observer of {event.__name__}", event)
        return observer

    def before_job_run(self, interceptor: BeforeJobRun, /) -> BeforeJobRun:
        """Register an interceptor that is asked in the slot before a handler is called.

        It answers with `Continue` or None, `Skip` or `Fail`. An exception fails the job as if its handler had
        raised it: `Snooze`, `RetryAfter` and `PermanentFailure` have the same effect. The timeout of the task
        includes the time of its interceptors.
        """
        return self._intercept(interceptor, "before_job_run")

    def after_job_run(self, interceptor: AfterJobRun, /) -> AfterJobRun:
        """Register an interceptor that is asked in the slot after a handler, before the outcome is recorded.

        It answers with `Continue` or None, `Skip` or `Fail`, or raises, as for `before_job_run`. `Skip`
        completes the job even if its handler raised. The interceptor is not asked about runs that were
        interrupted or snoozed, nor if the handler has completed the job in its own transaction. If the
        interceptor is cancelled, the outcome of the handler is recorded unchanged.
        """
        return self._intercept(interceptor, "after_job_run")

    def before_job_schedule(self, interceptor: BeforeJobSchedule, /) -> BeforeJobSchedule:
        """Register an interceptor that is asked before a job is added, in the call that adds it.

        It answers with `Continue` or None, `Rewrite`, `Skip` or `Fail`; an exception is the same as `Fail`.
        `add_job` raises `JobSkipped` after `Skip` and `JobRefused` after `Fail`. `add_jobs` leaves skipped
        jobs out and reports them, and adds none of the jobs if one is refused. A recurring job is not added
        after either answer, and its time counts as done.
        """
        return self._intercept(interceptor, "before_job_schedule")

    def recover_job(self, interceptor: RecoverJob, /) -> RecoverJob:
        """Register an interceptor that is asked before a sweep gives back a job of a dead worker.

        It answers with `Continue` or None, `Reschedule`, `FailWithBackoff` or `Skip`. An exception is logged,
        and the job goes back with its attempt, as without interceptors. They are asked before the transaction
        of the sweep begins. An answer has no effect if the dead worker no longer holds the job by then.
        """
        return self._intercept(interceptor, "recover_job")

    def around_job_run(self, wrapper: AroundJobRun, /) -> AroundJobRun:
        """Register a function that returns a context manager around a handler and its interceptors.

        It is entered and left in the slot, for spans, context variables or timings. It sees the exception of
        the handler, cancellation included, and cannot change the outcome: `after_job_run` can. It cannot
        await. An exception of its own is only logged.
        """
        _check_enters_at_once(wrapper, "around_job_run")
        return self._intercept(wrapper, "around_job_run")

    def around_job_schedule(self, wrapper: AroundJobSchedule, /) -> AroundJobSchedule:
        """Register a function that returns a context manager around the adding of jobs by one call.

        `before_job_schedule` is asked inside of it. It cannot change what is added, nor what the call raises.
        It cannot await. An exception of its own is only logged.
        """
        _check_enters_at_once(wrapper, "around_job_schedule")
        return self._intercept(wrapper, "around_job_schedule")

    def register(self, hooks: Hooks, /) -> None:
        """Register the hooks of this registry with another one, as a plugin does."""
        self._frozen = True
        hooks._take_over(self._entries)

    @property
    def entries(self) -> tuple[Hook, ...]:
        """The registered hooks, in their order."""
        return tuple(self._entries)

    @contextlib.contextmanager
    def registering(self, plugin: object) -> Iterator[None]:
        """Note a plugin as the one that registers hooks in the body."""
        self._plugin = type(plugin).__qualname__
        yield

    def freeze(self) -> None:
        """Refuse further registrations: they raise `HooksFrozen` from now on."""
        self._frozen = True

    def _intercept(self, function: HookT, kind: str) -> HookT:
        self._add(function, kind)
        return function

    def _add(self, function: object, kind: str, event: type[Event] | None = None) -> None:
        if not callable(function):
            raise OptionInvalid("hook", f"{kind}: a function is needed, not {function!r}")
        self._take_over([Hook(function, kind, self._plugin, event)])

    def _take_over(self, entries: Iterable[Hook]) -> None:
        for hook in entries:
            if self._frozen:
                raise HooksFrozen(hook.kind)
            self._entries.append(hook)


def _check_enters_at_once(wrapper: object, kind: str) -> None:
    function = inspect.unwrap(wrapper) if callable(wrapper) else wrapper
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise OptionInvalid("hook", f"{kind}: a plain context manager is needed, not an async one")


def hooks_of(plugins: Iterable[Plugin], worker: ObservedWorker | None = None) -> Hooks:
    """Return a frozen registry of what plugins register. Raises `OptionInvalid` for any other object."""
    hooks = Hooks(worker=worker)
    for plugin in plugins:
        if isinstance(plugin, type) or not callable(getattr(plugin, "register", None)):
            raise OptionInvalid(
                "plugins", f"an object with a method register(hooks) is needed, not {plugin!r}"
            )
        if inspect.iscoroutinefunction(plugin.register):
            raise OptionInvalid("plugins", f"register of {plugin!r} is async: a plain method is needed")
        with hooks.registering(plugin):
            plugin.register(hooks)
    hooks.freeze()
    return hooks


if TYPE_CHECKING:
    _: Plugin = Hooks()
