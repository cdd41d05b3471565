"""The registry: who observes which events, and who is asked before what."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import attrs

from trio_graphile._exceptions import HooksFrozen, OptionInvalid
from trio_graphile._model.statistics import Backlog, WorkerStatistics
from trio_graphile.hooks._event import Event
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
    """Anything that registers hooks. One plugin may be given to several workers and clients."""

    def register(self, hooks: Hooks, /) -> object:
        """Register observers and interceptors; called once by each worker and client it is given to."""
        ...


class ObservedWorker(Protocol):
    """What a plugin can ask its worker."""

    @property
    def worker_id(self) -> str:
        """What stands in `locked_by` of the rows that it holds."""
        ...

    def statistics(self) -> WorkerStatistics:
        """Say what the worker is doing."""
        ...

    async def backlog(self) -> Backlog:
        """Count the jobs of the whole queue by state. Raises `DatabaseError`."""
        ...


@attrs.frozen
class Hook:
    """A function that somebody registered, and who that was."""

    function: Callable[..., Any]
    kind: str
    """What it is called for."""
    plugin: str

    def __str__(self) -> str:
        function = getattr(self.function, "__qualname__", None) or type(self.function).__qualname__
        return f"{self.kind} of {self.plugin} ({function})"


@attrs.define(eq=False)
class Hooks:
    """Observers of events, and interceptors, in the order of their registration.

    Plugins get one to register with. It can also be filled by hand and be given as a plugin itself. Once a
    worker or client is made with it, it is complete: what is registered later raises `HooksFrozen`.
    """

    worker: ObservedWorker | None = attrs.field(default=None, kw_only=True)
    """The worker that the hooks are for; None if they are for a client, or for whoever is given them."""
    _entries: list[tuple[type[Event] | None, Hook]] = attrs.field(init=False, factory=list, repr=False)
    """What was registered; of observers with the class of their events."""
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
        """Have a function, async or not, called with each event of a class and of the classes below it.

        Without a function, return a decorator. Observers are called one after the other, in a Trio task of
        their worker's: they hold up no job.
        """
        given: object = event
        if not (isinstance(given, type) and issubclass(given, Event)):
            raise OptionInvalid("event", f"a class of events is needed, not {event!r}")
        if observer is None:
            return lambda function: self.on(event, function)
        self._add(event, observer, f"observer of {event.__name__}")
        return observer

    def before_job_run(self, interceptor: BeforeJobRun, /) -> BeforeJobRun:
        """Ask before a handler is called, in the slot. Answers: `Continue` or None, `Skip`, `Fail`.

        An exception is a failure of the job, as if its handler had raised it: `Snooze`, `RetryAfter` and
        `PermanentFailure` mean what they mean there. The time counts towards the timeout of the task.
        """
        return self._intercept(interceptor, "before_job_run")

    def after_job_run(self, interceptor: AfterJobRun, /) -> AfterJobRun:
        """Ask after a handler has ended, in the slot, before that is recorded. Otherwise as `before_job_run`.

        `Skip` completes the job, whatever its handler raised. Not asked about jobs that were interrupted, or
        that their handlers completed in a transaction of their own, or snoozed. If it is cancelled, what the
        handler did is recorded as it is.
        """
        return self._intercept(interceptor, "after_job_run")

    def before_job_schedule(self, interceptor: BeforeJobSchedule, /) -> BeforeJobSchedule:
        """Ask before a job is added, in the call that adds it.

        Answers: `Continue` or None, `Rewrite`, `Skip`, `Fail`. An exception is as good as `Fail`. `add_job`
        raises `JobSkipped` and `JobRefused`; where many are added at once, one that is skipped is left out
        and reported, and one that fails keeps all from being added. A recurring job is not added in either
        case, and its time counts as done.
        """
        return self._intercept(interceptor, "before_job_schedule")

    def recover_job(self, interceptor: RecoverJob, /) -> RecoverJob:
        """Ask before a job of a dead worker is given back.

        Answers: `Continue` or None, `Reschedule`, `FailWithBackoff`, `Skip`. An exception is logged, and the
        job given back as ever. Asked before the sweep's transaction: an answer about a job that is not the
        dead worker's any more by then is of no effect.
        """
        return self._intercept(interceptor, "recover_job")

    def around_job_run(self, wrapper: AroundJobRun, /) -> AroundJobRun:
        """Have a handler and its interceptors run inside a context manager, in the slot: for spans and such.

        The manager sees what the handler raised, cancellation included, and cannot change what comes of it:
        that is for `after_job_run`. Nor can it await, so an exception of its own is only logged.
        """
        return self._intercept(wrapper, "around_job_run")

    def around_job_schedule(self, wrapper: AroundJobSchedule, /) -> AroundJobSchedule:
        """Have jobs added inside a context manager, `before_job_schedule` included. As `around_job_run`."""
        return self._intercept(wrapper, "around_job_schedule")

    def register(self, hooks: Hooks, /) -> None:
        """Register everything that is registered here: a registry is a plugin, too."""
        self._frozen = True
        hooks._take_over(self._entries)

    @property
    def entries(self) -> tuple[tuple[type[Event] | None, Hook], ...]:
        """What is registered; of observers with the class of their events."""
        return tuple(self._entries)

    @contextlib.contextmanager
    def registering(self, plugin: object) -> Iterator[None]:
        """Remember that a plugin registers what is registered in the body."""
        self._plugin = type(plugin).__qualname__
        yield

    def freeze(self) -> None:
        """Refuse what is registered from now on."""
        self._frozen = True

    def _intercept(self, function: HookT, kind: str) -> HookT:
        self._add(None, function, kind)
        return function

    def _add(self, event: type[Event] | None, function: object, kind: str) -> None:
        if not callable(function):
            raise OptionInvalid("hook", f"{kind}: a function is needed, not {function!r}")
        self._take_over([(event, Hook(function, kind, self._plugin))])

    def _take_over(self, entries: Iterable[tuple[type[Event] | None, Hook]]) -> None:
        for event, hook in entries:
            if self._frozen:
                raise HooksFrozen(hook.kind)
            self._entries.append((event, hook))


def hooks_of(plugins: Iterable[Plugin], worker: ObservedWorker | None = None) -> Hooks:
    """Return what plugins register, complete. Raises `OptionInvalid` for what is no plugin."""
    hooks = Hooks(worker=worker)
    for plugin in plugins:
        if isinstance(plugin, type) or not callable(getattr(plugin, "register", None)):
            raise OptionInvalid(
                "plugins", f"an object with a method register(hooks) is needed, not {plugin!r}"
            )
        with hooks.registering(plugin):
            plugin.register(hooks)
    hooks.freeze()
    return hooks


if TYPE_CHECKING:
    _: Plugin = Hooks()
