"""The options of a task, and the delays after its failures."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.delays import check_delay
from trio_graphile._model.jobs import JobSpec
from trio_graphile._model.validators import check_one_of, seconds, whole_number

logger = logging.getLogger("trio_graphile.tasks")

Lane: TypeAlias = Literal["async", "thread", "process"]
OnReplaced: TypeAlias = Literal["finish", "cancel"]
OnInvalidPayload: TypeAlias = Literal["retry", "fail"]
Retry: TypeAlias = Sequence[float] | Callable[[int], float]
"""Seconds until the next attempt: a list by attempt, whose last item also holds for all further attempts, or
a function of the number of the failed attempt, from 1."""


class TaskSettings(TypedDict, total=False):
    """The fields of `TaskOptions`, as keyword arguments of the decorators."""

    lane: Lane | None
    timeout: float | None
    concurrency: int | None
    retry: Retry | None
    on_replaced: OnReplaced
    on_invalid_payload: OnInvalidPayload
    queue_name: str | None
    max_attempts: int | None
    priority: int | None
    needs: Sequence[type[Any]]


def _one_of(words: Any) -> Any:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None:
            check_one_of(attribute.name, value, words)

    return check


def _retry(value: Any) -> Retry | None:
    if inspect.iscoroutinefunction(value):
        raise OptionInvalid("retry", "a plain function is needed, not an async one")
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]  # its result is a number, or not used
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise OptionInvalid(
            "retry", f"a list of seconds or a function of the attempt is right, not {value!r}"
        )
    for delay in value:
        check_delay("retry", delay)
    return tuple(value)


def _types(value: Any) -> tuple[type[Any], ...]:
    if isinstance(value, type) or not all(isinstance(wanted, type) for wanted in value):
        raise OptionInvalid("needs", f"a list of types is right, not {value!r}")
    return tuple(value)


@attrs.frozen(kw_only=True)
class TaskOptions:
    """How the jobs of a task are added and run. Durations are seconds. Raises `OptionInvalid`."""

    lane: Lane | None = attrs.field(default=None, validator=_one_of(Lane))
    """Where the handler runs. Defaults to the event loop for async functions, and to a thread for plain
    functions; a plain one that computes is better off in a process."""
    timeout: float | None = attrs.field(default=None, validator=attrs.validators.optional(seconds(604_800)))
    """How long one run may take. After that it is cancelled, and has failed."""
    concurrency: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole_number(1, 100_000))
    )
    """How many jobs of the task a worker runs at once. Defaults to its number of slots."""
    retry: Retry | None = attrs.field(default=None, converter=_retry)
    """The delays after failures. Defaults to e to the power of the number of attempts, at most of ten."""
    on_replaced: OnReplaced = attrs.field(default="finish", validator=_one_of(OnReplaced))
    """What happens to a run when its job is replaced or removed through its key: it may finish, or is
    cancelled."""
    on_invalid_payload: OnInvalidPayload = attrs.field(default="retry", validator=_one_of(OnInvalidPayload))
    """Whether a job whose payload cannot be read is tried again, so that a newer program can read it, or
    fails for good."""
    queue_name: str | None = None
    """The named queue of jobs that are added without one. With it, no job of the task can be added without a
    queue."""
    max_attempts: int | None = None
    """How many attempts jobs have that are added without `max_attempts`."""
    priority: int | None = None
    """The priority of jobs that are added without one."""
    needs: Sequence[type[Any]] = attrs.field(default=(), converter=_types)
    """The types that the handler asks `context.get` for. A worker whose state lacks one cannot be made."""
    defaults: JobSpec = attrs.field(init=False, repr=False, eq=False)
    """The defaults for jobs of the task, checked."""

    def __attrs_post_init__(self) -> None:
        defaults = JobSpec(queue_name=self.queue_name, max_attempts=self.max_attempts, priority=self.priority)
        object.__setattr__(self, "defaults", _NOTHING if defaults == _NOTHING else defaults)

    def complete(self, spec: JobSpec) -> JobSpec:
        """Return a spec in which the defaults of the task replace what was left out."""
        if self.defaults is _NOTHING:  # runs for each job that is added
            return spec
        missing = {
            name: getattr(self.defaults, name)
            for name in ("queue_name", "max_attempts", "priority")
            if getattr(spec, name) is None
        }
        return attrs.evolve(spec, **missing)

    def retry_delay(self, attempt: int) -> float | None:
        """Return after how many seconds to try again; None to let the database decide.

        The database also decides if the policy raises, since that is not the job's fault.
        """
        if self.retry is None:
            return None
        if not callable(self.retry):
            return float(
                self.retry[max(min(attempt, len(self.retry)), 1) - 1]
            )  # a row may have a negative number
        try:
            delay = self.retry(attempt)
            check_delay("retry", delay)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: ASYNC103  # no cancellation reaches a plain function
            logger.exception("the retry policy failed for attempt %d; the default is used", attempt)
            return None  # noqa: ASYNC104  # as above
        return float(delay)


_NOTHING = JobSpec()
