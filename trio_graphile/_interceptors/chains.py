"""Chains: hooks as they are called. What users' functions raise ends here."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs
import trio

from trio_graphile._interceptors.raised import own_failure
from trio_graphile._model.failures import Failure, Verdict, failure_of, storable
from trio_graphile.hooks._event import Event
from trio_graphile.hooks._questions import (
    Addition,
    Continue,
    Fail,
    FailWithBackoff,
    JobRun,
    JobRunEnd,
    JobToRecover,
    RecoveryVerdict,
    Reschedule,
    Skip,
)
from trio_graphile.hooks._registry import Hook, Hooks

logger = logging.getLogger("trio_graphile.hooks")


@attrs.frozen(eq=False)
class Chains:
    """What is called when, complete and in order."""

    before_job_run: tuple[Hook, ...] = ()
    after_job_run: tuple[Hook, ...] = ()
    before_job_schedule: tuple[Hook, ...] = ()
    recover_job: tuple[Hook, ...] = ()
    around_job_run: tuple[Hook, ...] = ()
    around_job_schedule: tuple[Hook, ...] = ()
    _observers: tuple[tuple[type[Event], Hook], ...] = ()

    @classmethod
    def of(cls, hooks: Hooks) -> Chains:
        """Return the chains of what is registered."""
        entries = hooks.entries
        chains = {
            field.name: tuple(hook for _, hook in entries if hook.kind == field.name)
            for field in attrs.fields(cls)
            if field.init and not field.name.startswith("_")
        }
        return cls(**chains, observers=tuple((event, hook) for event, hook in entries if event is not None))

    def observers_of(self, event: type[Event]) -> tuple[Hook, ...]:
        """Return who observes events of a class."""
        return tuple(hook for observed, hook in self._observers if issubclass(event, observed))

    @property
    def has_observers(self) -> bool:
        """Whether anybody observes anything."""
        return bool(self._observers)

    @property
    def touches_runs(self) -> bool:
        """Whether anything is called before, after or around a handler."""
        return bool(self.before_job_run or self.after_job_run or self.around_job_run)

    @property
    def touches_additions(self) -> bool:
        """Whether anything is called before or around the adding of jobs."""
        return bool(self.before_job_schedule or self.around_job_schedule)


NO_CHAINS = Chains()


@attrs.frozen
class Raised:
    """A hook has raised an exception, or several at once. Never what has to go further."""

    error: BaseException


@trio.lowlevel.disable_ki_protection
def _begin(hook: Hook, argument: object) -> Any:
    return hook.function(argument)


@trio.lowlevel.disable_ki_protection
async def _finish(answer: Awaitable[Any]) -> Any:
    return await answer


def begin(hook: Hook, argument: object) -> Any:
    """Call a hook; return its answer, something to `finish` if it is async, or `Raised`."""
    try:
        return _begin(hook, argument)
    except BaseException as error:  # noqa: BLE001, ASYNC103  # a hook may raise anything
        return Raised(own_failure(error))  # noqa: ASYNC104  # it raises what is not the hook's own


async def finish(answer: Awaitable[Any]) -> Any:
    """Wait for the answer of an async hook; return it, or `Raised`. Cancellation and its like go further."""
    try:
        return await _finish(answer)
    except BaseException as error:  # noqa: BLE001, ASYNC103  # as above
        return Raised(own_failure(error))  # noqa: ASYNC104  # as above


async def call(hook: Hook, argument: object) -> Any:
    """Call a hook, async or not; return its answer, or `Raised`. Cancellation and its like go further."""
    answer = begin(hook, argument)
    return await finish(answer) if inspect.isawaitable(answer) else answer


async def ask_about_run(chain: Iterable[Hook], about: JobRun | JobRunEnd) -> Skip | Failure | None:
    """Ask interceptors in turn, up to the first that has something to say."""
    for hook in chain:
        match await call(hook, about):
            case None | Continue():
                pass
            case Skip() as skip:
                return skip
            case Fail(reason, permanent=permanent):
                text = storable(reason) or "an interceptor gave no reason"
                return Failure(text, Verdict.PERMANENT if permanent else Verdict.RETRY)
            case Raised(error):
                failure = failure_of(error)
                if failure.verdict is Verdict.RETRY:  # else it was raised on purpose
                    logger.error("%s raised: job %d fails", hook, about.job.id, exc_info=error)
                return failure
            case answer:
                return Failure(wrong_answer(hook, answer, "Continue, Skip or Fail"))
    return None


async def ask_about_recovery(chain: Iterable[Hook], job: JobToRecover) -> RecoveryVerdict:
    """Ask interceptors in turn, up to the first that has something to say; None is what is done without."""
    for hook in chain:
        match await call(hook, job):
            case None | Continue():
                pass
            case (Skip() | Reschedule() | FailWithBackoff()) as verdict:
                return verdict
            case Raised(error):
                logger.error("%s raised: job %d is given back as ever", hook, job.job.id, exc_info=error)
                return None
            case answer:
                wrong = wrong_answer(hook, answer, "Continue, Reschedule, FailWithBackoff or Skip")
                logger.error("%s: job %d is given back as ever", wrong, job.job.id)
                return None
    return None


def wrong_answer(hook: Hook, answer: object, right: str) -> str:
    """Say what is wrong with an answer."""
    return f"TypeError: {hook} answered with {type(answer).__qualname__}; right is {right}"


@contextmanager
def around(chain: Sequence[Hook], about: JobRun | Addition) -> Iterator[None]:
    """Run the body inside of the context managers that hooks return, which cannot change what it raises."""
    entered: list[tuple[Hook, AbstractContextManager[object]]] = []
    error: BaseException | None = None
    try:
        for hook in chain:
            manager = _enter(hook, about)
            if manager is not None:
                entered.append((hook, manager))
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        for hook, manager in reversed(entered):
            _leave(hook, manager, error)


def _enter(hook: Hook, about: JobRun | Addition) -> AbstractContextManager[object] | None:
    try:
        manager: AbstractContextManager[object] = hook.function(about)
        manager.__enter__()
    except BaseException as raised:  # noqa: ASYNC103  # as above
        logger.exception("%s raised before it", hook, exc_info=own_failure(raised))
        return None  # noqa: ASYNC104  # as above
    return manager


def _leave(hook: Hook, manager: AbstractContextManager[object], error: BaseException | None) -> None:
    try:
        if error is None:
            manager.__exit__(None, None, None)
        else:
            manager.__exit__(type(error), error, error.__traceback__)
    except BaseException as raised:  # noqa: ASYNC103  # the same error goes on in `around`
        if raised is not error:
            logger.exception("%s raised after it", hook, exc_info=own_failure(raised))
