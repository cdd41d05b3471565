"""What a task may ask for, and how its failures are spaced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, get_args

import attrs

from trio_graphile._exceptions import OptionInvalid, check_delay
from trio_graphile._model.jobs import JobSpec
from trio_graphile._model.options import seconds, whole_number

logger = logging.getLogger("trio_graphile.tasks")

Lane: TypeAlias = Literal["async", "thread", "process"]
OnReplaced: TypeAlias = Literal["finish", "cancel"]
OnInvalidPayload: TypeAlias = Literal["retry", "fail"]
Retry: TypeAlias = Sequence[float] | Callable[[int], float]
"""Seconds until the next attempt: a list by attempt, whose last one stands for all further ones, or a
function of the attempt that failed (1 is the first)."""


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
    known = get_args(words)

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None and value not in known:
            raise OptionInvalid(attribute.name, f"{value!r} is not one of {', '.join(map(repr, known))}")

    return check


def _retry(value: Any) -> Retry | None:
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]  # called with a number, it returns one, or is not used
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
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
    """Where the handler runs. By default async functions in the event loop and plain functions in a thread; a
    plain one that computes is better off in a process."""
    timeout: float | None = attrs.field(default=None, validator=seconds(604_800))
    """How long one run may take. Then it is cancelled, and has failed."""
    concurrency: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(whole_number(1, 100_000))
    )
    """How many jobs of the task a worker runs at once; by default as many as it has slots."""
    retry: Retry | None = attrs.field(default=None, converter=_retry)
    """When a failed job is tried again. By default e to the power of the attempt, the tenth at most."""
    on_replaced: OnReplaced = attrs.field(default="finish", validator=_one_of(OnReplaced))
    """What a run does when its job is replaced or removed through its key: it may finish, or is cancelled."""
    on_invalid_payload: OnInvalidPayload = attrs.field(default="retry", validator=_one_of(OnInvalidPayload))
    """Whether a job with a payload that cannot be read is tried again, for a newer program to read it, or has
    failed for good."""
    queue_name: str | None = None
    """The named queue of jobs that are added without one. They cannot be added without any then."""
    max_attempts: int | None = None
    """How often jobs may be tried that are added without saying so."""
    priority: int | None = None
    """The priority of jobs that are added without one."""
    needs: Sequence[type[Any]] = attrs.field(default=(), converter=_types)
    """What the handler asks for with `context.get`: a worker whose state lacks it is not even made."""
    defaults: JobSpec = attrs.field(init=False, repr=False, eq=False)
    """The last three, checked."""

    def __attrs_post_init__(self) -> None:
        defaults = JobSpec(queue_name=self.queue_name, max_attempts=self.max_attempts, priority=self.priority)
        object.__setattr__(self, "defaults", _NOTHING if defaults == _NOTHING else defaults)

    def complete(self, spec: JobSpec) -> JobSpec:
        """Return a specification in which what was left out is as the task wants it."""
        if self.defaults is _NOTHING:  # asked for each job that is added
            return spec
        missing = {
            name: getattr(self.defaults, name)
            for name in ("queue_name", "max_attempts", "priority")
            if getattr(spec, name) is None
        }
        return attrs.evolve(spec, **missing)

    def retry_delay(self, attempt: int) -> float | None:
        """Return after how many seconds to try again; None to let the database decide.

        A policy that fails is not the job's fault: then the database decides, too.
        """
        if self.retry is None:
            return None
        if not callable(self.retry):
            return float(
                self.retry[max(min(attempt, len(self.retry)), 1) - 1]
            )  # a row may say fewer than none
        try:
            delay = self.retry(attempt)
            check_delay("retry", delay)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: ASYNC103  # a plain function, which no cancellation reaches
            logger.exception("the retry policy failed for attempt %d; the default is used", attempt)
            return None  # noqa: ASYNC104  # as above
        return float(delay)


_NOTHING = JobSpec()
