"""The registry: the tasks of a program, by identifier, and the decorators that make them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, Unpack, overload

from trio_graphile._exceptions import DuplicateTask, OptionInvalid, StateMissing, TaskInvalid, UnknownTask
from trio_graphile._model.app_state import find_state
from trio_graphile._model.batches import BatchResult
from trio_graphile._model.jobs import check_identifier
from trio_graphile._model.payloads import PayloadFormat, PayloadFormats, UnknownKeys
from trio_graphile._model.shape import Unstorable
from trio_graphile._model.similar import did_you_mean
from trio_graphile._model.task_options import TaskOptions, TaskSettings
from trio_graphile._model.validators import check_kind, check_one_of
from trio_graphile._tasks.context import JobContext
from trio_graphile._tasks.signature import (
    choose_lane,
    function_of,
    read_signature,
    unknown_name,
)
from trio_graphile._tasks.task import Task

PayloadT = TypeVar("PayloadT")
ItemT = TypeVar("ItemT")


class TaskDecorator(Protocol):
    """Makes a task of a handler. The annotation of the handler says what type its payload has."""

    @overload
    def __call__(self, handler: Callable[[], object], /) -> Task[None]: ...
    @overload
    def __call__(self, handler: Callable[[JobContext], object], /) -> Task[None]: ...
    @overload
    def __call__(self, handler: Callable[[PayloadT], object], /) -> Task[PayloadT]: ...
    @overload
    def __call__(self, handler: Callable[[PayloadT, JobContext], object], /) -> Task[PayloadT]: ...
    def __call__(self, handler: Callable[..., object], /) -> Task[Any]:
        """Register the handler and return its task."""
        ...


class BatchDecorator(Protocol):
    """Makes a batch task of a handler, which takes a list of items and returns which of them failed."""

    @overload
    def __call__(self, handler: Callable[[list[ItemT]], Awaitable[BatchResult]], /) -> Task[list[ItemT]]: ...
    @overload
    def __call__(
        self, handler: Callable[[list[ItemT], JobContext], Awaitable[BatchResult]], /
    ) -> Task[list[ItemT]]: ...
    @overload
    def __call__(self, handler: Callable[[list[ItemT]], BatchResult], /) -> Task[list[ItemT]]: ...
    @overload
    def __call__(self, handler: Callable[[list[ItemT], JobContext], BatchResult], /) -> Task[list[ItemT]]: ...
    def __call__(self, handler: Callable[..., object], /) -> Task[Any]:
        """Register the handler and return its task."""
        ...


class TaskRegistry:
    """The tasks of a program, by identifier.

    `unknown_keys` says what happens to a job whose payload has keys that its type does not know: the job
    fails, or the keys are ignored. The keys that crontabs (`_cron`) and the tracing of other workers
    (`_trace`) add are always ignored.
    """

    def __init__(self, *, unknown_keys: UnknownKeys = "refuse") -> None:
        check_one_of("unknown_keys", unknown_keys, UnknownKeys)
        self._tasks: dict[str, Task[Any]] = {}
        self._formats = PayloadFormats(unknown_keys)

    def task(self, identifier: str, **settings: Unpack[TaskSettings]) -> TaskDecorator:
        """Return a decorator that makes a task of a function; the settings are the fields of `TaskOptions`.

        The function takes the payload, then the `JobContext`; both may be left out. An async function runs in
        the event loop; a plain one runs in a thread, or with `lane="process"` in a process. The database
        stores the identifier, so you write it out: renaming the function must not orphan rows. Raises
        `OptionInvalid`, `DuplicateTask` and, if the function cannot be a handler, `TaskInvalid`.
        """
        decorator: TaskDecorator = self._decorator(identifier, settings, is_batch=False)
        return decorator

    def batch_task(self, identifier: str, **settings: Unpack[TaskSettings]) -> BatchDecorator:
        """Return a decorator that makes a batch task: one job, whose payload is a list of items.

        The function takes the list instead of the payload. It returns None if all items succeeded, or a list
        with None or an exception for each item: then the job fails, and only the failed items are tried
        again. If the function raises, all items are tried again. Otherwise it is like `task`.
        """
        decorator: BatchDecorator = self._decorator(identifier, settings, is_batch=True)
        return decorator

    def include(self, other: TaskRegistry) -> None:
        """Add all tasks of another registry, or none and raise `DuplicateTask`."""
        check_kind("tasks", other, TaskRegistry)
        for identifier in other.identifiers:
            if identifier in self._tasks:
                raise DuplicateTask(identifier)
        self._tasks.update(other._tasks)

    def check_state(self, state: object) -> None:
        """Raise `StateMissing` if a task needs state that the worker does not have."""
        for task in self._tasks.values():
            for wanted in task.options.needs:
                try:
                    find_state(state, wanted)
                except StateMissing as missing:
                    raise StateMissing(wanted, f"task {task.identifier!r}: {missing.reason}") from None

    @property
    def identifiers(self) -> tuple[str, ...]:
        """The identifiers of all tasks, in the order of their registration."""
        return tuple(self._tasks)

    def __getitem__(self, identifier: str) -> Task[Any]:
        try:
            return self._tasks[identifier]
        except KeyError:
            raise UnknownTask(identifier) from None

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._tasks

    def __iter__(self) -> Iterator[Task[Any]]:
        return iter(tuple(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<TaskRegistry of {', '.join(self._tasks) or 'nothing'}>"

    def _decorator(self, identifier: str, settings: TaskSettings, *, is_batch: bool) -> Any:
        check_identifier(identifier)
        _check_names(settings)
        options = TaskOptions(**settings)

        def register(handler: Callable[..., object], /) -> Task[Any]:
            if identifier in self._tasks:
                raise DuplicateTask(identifier)
            scope = sys._getframe(1).f_locals  # noqa: SLF001  # annotations may name local classes
            task = self._make_task(identifier, handler, scope, options, is_batch=is_batch)
            self._tasks[identifier] = task
            return task

        return register

    def _make_task(
        self,
        identifier: str,
        handler: Callable[..., object],
        scope: Mapping[str, Any],
        options: TaskOptions,
        *,
        is_batch: bool,
    ) -> Task[Any]:
        lane = choose_lane(identifier, handler, options.lane)
        signature = read_signature(identifier, handler, scope, lane=lane, is_batch=is_batch)
        if is_batch and not signature.wants_payload:
            raise TaskInvalid(identifier, "a batch handler takes the list of items")
        if options.needs and lane == "process":
            raise TaskInvalid(
                identifier, "a process cannot be lent the state of its worker: leave out `needs`"
            )
        return Task(
            identifier=identifier,
            handler=handler,
            lane=lane,
            is_batch=is_batch,
            wants_payload=signature.wants_payload,
            wants_context=signature.wants_context,
            options=options,
            home=str(getattr(function_of(handler), "__module__", None)).partition(".")[0],
            format=self._format_for(identifier, signature.payload_type, scope),
        )

    def _format_for(self, identifier: str, payload_type: Any, scope: Mapping[str, Any]) -> PayloadFormat[Any]:
        try:
            return self._formats.format_for(payload_type, scope)
        except NameError as error:
            raise TaskInvalid(identifier, unknown_name(error)) from error
        except Unstorable as error:
            raise TaskInvalid(identifier, str(error)) from error


def _check_names(settings: Mapping[str, object]) -> None:
    known = TaskSettings.__annotations__
    for name in settings:
        if name not in known:
            raise OptionInvalid(name, f"there is no such option{did_you_mean(name, known)}")
