"""Tasks: an identifier, a payload type and a handler each; and what a handler is told of its job."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import (
    Any,
    Generic,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
    overload,
)

import attrs
import trio
from cattrs import StructureHandlerNotFoundError

from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile._exceptions import (
    DuplicateTask,
    JobPayloadInvalid,
    OptionInvalid,
    PayloadInvalid,
    TaskInvalid,
    UnknownTask,
)
from trio_graphile._model.jobs import Job, check_identifier
from trio_graphile._model.payloads import PayloadFormat, PayloadFormats, PayloadMismatch, UnknownKeys

PayloadT = TypeVar("PayloadT")
OnReplaced: TypeAlias = Literal["finish", "cancel"]


@attrs.frozen(kw_only=True, eq=False)
class JobContext:
    """What a handler is told of its job and lent for it."""

    job: Job
    client: Client
    """Adds further jobs, on sessions of the pool: not in a transaction with this job."""
    database: Database
    worker_id: str = ""
    state: Any = attrs.field(default=None, repr=False)
    """Whatever the worker was made with."""
    stopping: trio.Event = attrs.field(factory=trio.Event, repr=False)
    """Set when the worker begins to stop; the handler has the grace period left."""

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 at the first."""
        return self.job.attempts


@attrs.frozen(kw_only=True, eq=False)
class Task(Generic[PayloadT]):
    """An identifier, a payload type and a handler. Made by `TaskRegistry.task`."""

    identifier: str
    """The name under which jobs are stored; other programs may add and run them under it."""
    handler: Callable[..., Awaitable[object]]
    """The function as it was written."""
    wants_payload: bool
    wants_context: bool
    on_replaced: OnReplaced = "finish"
    """What a run does when its job is replaced or removed through its key: it may finish, or is cancelled."""
    _format: PayloadFormat[PayloadT] = attrs.field(repr=False)

    @property
    def payload_type(self) -> Any:
        """The type of the payload; `NoneType` if there is none."""
        return self._format.payload_type

    def to_json(self, payload: PayloadT) -> str:
        """Return a payload as JSON text that `from_json` can read. Raises `PayloadInvalid`."""
        try:
            return self._format.to_json(payload)
        except PayloadMismatch as mismatch:
            raise PayloadInvalid(self.identifier, mismatch.reasons) from None

    def from_json(self, text: str) -> PayloadT:
        """Return the payload of a stored job; None if the handler takes none. Raises `JobPayloadInvalid`."""
        if not self.wants_payload:
            return cast("PayloadT", None)
        try:
            return self._format.from_json(text)
        except PayloadMismatch as mismatch:
            raise JobPayloadInvalid(self.identifier, mismatch.reasons) from None

    async def call(self, payload: PayloadT, context: JobContext) -> None:
        """Call the handler with what it asks for. Raises whatever it raises."""
        arguments: list[Any] = []
        if self.wants_payload:
            arguments.append(payload)
        if self.wants_context:
            arguments.append(context)
        await self.handler(*arguments)


class TaskDecorator(Protocol):
    """Makes a task of a handler; its payload type is read from the handler's annotation."""

    @overload
    def __call__(self, handler: Callable[[], Awaitable[object]], /) -> Task[None]: ...
    @overload
    def __call__(self, handler: Callable[[JobContext], Awaitable[object]], /) -> Task[None]: ...
    @overload
    def __call__(self, handler: Callable[[PayloadT], Awaitable[object]], /) -> Task[PayloadT]: ...
    @overload
    def __call__(self, handler: Callable[[PayloadT, JobContext], Awaitable[object]], /) -> Task[PayloadT]: ...
    def __call__(self, handler: Callable[..., Awaitable[object]], /) -> Task[Any]:
        """Register the handler and return its task."""
        ...


class TaskRegistry:
    """The tasks of a program, by identifier.

    `unknown_keys` says what becomes of a stored payload with keys that its type does not know: the job fails,
    or they are ignored. What crontabs and tracing of other workers add (`_cron`, `_trace`) is ignored in any
    case.
    """

    def __init__(self, *, unknown_keys: UnknownKeys = "refuse") -> None:
        self._tasks: dict[str, Task[Any]] = {}
        self._formats = PayloadFormats(unknown_keys)

    def task(self, identifier: str, *, on_replaced: OnReplaced = "finish") -> TaskDecorator:
        """Return a decorator that makes a task of an async function.

        The function takes the payload, then the `JobContext`; both may be left out. The identifier stands in
        the database, so it is written out: renaming the function must not orphan rows. Raises
        `OptionInvalid`, `DuplicateTask` and, when the function cannot be a handler, `TaskInvalid`.

        A job that is replaced or removed through its key while it runs is let finish, or is cancelled, as
        `on_replaced` says. A worker finds out at its next renewal.
        """
        check_identifier(identifier)
        if on_replaced not in get_args(OnReplaced):
            raise OptionInvalid("on_replaced", f"{on_replaced!r} is neither 'finish' nor 'cancel'")

        def register(handler: Callable[..., Awaitable[object]], /) -> Task[Any]:
            if identifier in self._tasks:
                raise DuplicateTask(identifier)
            scope = sys._getframe(1).f_locals  # noqa: SLF001  # where classes local to a function are found
            task = attrs.evolve(self._make_task(identifier, handler, scope), on_replaced=on_replaced)
            self._tasks[identifier] = task
            return task

        return register

    def include(self, other: TaskRegistry) -> None:
        """Take over all tasks of another registry, or none and raise `DuplicateTask`."""
        for identifier in other.identifiers:
            if identifier in self._tasks:
                raise DuplicateTask(identifier)
        self._tasks.update(other._tasks)

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

    def _make_task(
        self, identifier: str, handler: Callable[..., Awaitable[object]], scope: Mapping[str, Any]
    ) -> Task[Any]:
        if not _is_async(handler):
            raise TaskInvalid(identifier, f"an async function is needed, not {_describe(handler)}")
        parameters = _parameters(identifier, handler)
        wants_context = bool(parameters) and _is_context(parameters[-1])
        payload = parameters[: len(parameters) - wants_context]
        if len(payload) > 1 or any(map(_is_context, payload)):
            names = ", ".join(parameter.name for parameter in parameters)
            raise TaskInvalid(
                identifier,
                f"its parameters are ({names}); right are (payload, context), each of which may be left out",
            )
        payload_type = _resolve(identifier, handler, payload[0], scope) if payload else types.NoneType
        return Task(
            identifier=identifier,
            handler=handler,
            wants_payload=bool(payload),
            wants_context=wants_context,
            format=self._format_for(identifier, payload_type, scope),
        )

    def _format_for(self, identifier: str, payload_type: Any, scope: Mapping[str, Any]) -> PayloadFormat[Any]:
        try:
            if attrs.has(payload_type):
                attrs.resolve_types(payload_type, localns=_locals_of(payload_type, scope))
            return self._formats.format_for(payload_type)
        except NameError as error:
            raise TaskInvalid(identifier, _unknown_name(error)) from error
        except StructureHandlerNotFoundError as error:
            raise TaskInvalid(identifier, f"JSON cannot be read as {error.type_!r}") from error


def _parameters(identifier: str, handler: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters that we have to fill, or raise `TaskInvalid` for those that we cannot."""
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            found.append(parameter)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise TaskInvalid(identifier, f"nobody would fill the keyword-only parameter {parameter.name!r}")
        elif parameter.kind is parameter.VAR_POSITIONAL:
            raise TaskInvalid(
                identifier, f"*{parameter.name} does not say what it takes: (payload, context) would"
            )
    return found


def _is_context(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return parameter.name == "context" or annotation.rpartition(".")[2].strip("\"' ") == "JobContext"
    return parameter.name == "context" or annotation is JobContext


def _resolve(
    identifier: str, handler: Callable[..., object], parameter: inspect.Parameter, scope: Mapping[str, Any]
) -> Any:
    if parameter.annotation is parameter.empty:
        return Any
    annotated = types.SimpleNamespace(__annotations__={"payload": parameter.annotation})
    try:
        function = _function_of(handler)
        names = getattr(function, "__globals__", {})
        return get_type_hints(annotated, names, _locals_of(function, scope), include_extras=True)["payload"]
    except NameError as error:
        raise TaskInvalid(identifier, _unknown_name(error)) from error


def _function_of(handler: Any) -> Any:
    if isinstance(handler, functools.partial):
        return _function_of(handler.func)
    return inspect.unwrap(handler if inspect.isroutine(handler) else type(handler).__call__)


def _locals_of(definition: Any, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the local names that the annotations of a function or class may use, if it is local itself."""
    return dict(scope) if "<locals>" in definition.__qualname__ else {}


def _unknown_name(error: NameError) -> str:
    return (
        f"the annotation of its payload names {error.name!r}, which is not known where the task is made: "
        "define it there or at the top of its module, and import it at run time, not for type checkers alone"
    )


def _is_async(handler: object) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def _describe(handler: object) -> str:
    if inspect.isasyncgenfunction(handler):
        return "an async generator"
    if inspect.isgeneratorfunction(handler):
        return "a generator"
    return "a plain function" if inspect.isfunction(handler) else repr(handler)
