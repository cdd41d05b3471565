"""Reads the signature of a handler: its lane, its parameters, and the type of its payload."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableSequence, Sequence
from typing import Any, get_args, get_type_hints

import attrs

from trio_graphile._exceptions import TaskInvalid
from trio_graphile._model.annotations import core_of, name_of, origin_of
from trio_graphile._model.task_options import Lane
from trio_graphile._tasks.context import JobContext


@attrs.frozen(kw_only=True)
class Signature:
    """The parameters of a handler that we have to fill."""

    payload_type: Any
    """`NoneType` if the handler takes no payload."""
    wants_payload: bool
    wants_context: bool


def read_signature(
    identifier: str, handler: Callable[..., object], scope: Mapping[str, Any], *, lane: Lane, is_batch: bool
) -> Signature:
    """Return the parameters of a handler. Raises `TaskInvalid` for parameters that we cannot fill.

    `scope` holds the local names where the task is made.
    """
    parameters = _parameters(identifier, handler)
    wants_context = bool(parameters) and _is_context(parameters[-1])
    payload = parameters[: len(parameters) - wants_context]
    if len(payload) > 1 or any(map(_is_context, payload)):
        names = ", ".join(parameter.name for parameter in parameters)
        raise TaskInvalid(
            identifier,
            f"its parameters are ({names}); right are (payload, context), each of which may be left out",
        )
    if wants_context and lane == "process":
        raise TaskInvalid(
            identifier, "a process cannot be lent a context: `current_job()` says there which job it is"
        )
    payload_type = _resolve(identifier, handler, payload[0], scope) if payload else types.NoneType
    if is_batch:
        payload_type = _batch_type(identifier, payload_type)
    return Signature(payload_type=payload_type, wants_payload=bool(payload), wants_context=wants_context)


def choose_lane(identifier: str, handler: Any, wanted: Lane | None) -> Lane:
    """Return the lane of a handler: the one its task asks for, or its usual one. Raises `TaskInvalid`."""
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise TaskInvalid(identifier, "a function that returns is needed, not a generator")
    if not callable(handler) or isinstance(handler, type):
        raise TaskInvalid(identifier, f"a function is needed, not {handler!r}")
    if _is_async(handler):
        if wanted in ("thread", "process"):
            raise TaskInvalid(identifier, f"the lane {wanted!r} needs a plain function, not an async one")
        return "async"
    if wanted == "async":
        raise TaskInvalid(identifier, "the lane 'async' needs an async function, not a plain one")
    if wanted == "process" and "<" in function_of(handler).__qualname__:
        raise TaskInvalid(
            identifier, "a process finds a handler by its name: define it at the top level of a module"
        )
    return wanted or "thread"


def function_of(handler: Any) -> Any:
    """Return the function behind a partial, a decorated function, or a callable object."""
    if isinstance(handler, functools.partial):
        return function_of(handler.func)
    return inspect.unwrap(handler if inspect.isroutine(handler) else type(handler).__call__)


def locals_of(definition: Any, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the local names that annotations of a function or class may use, if it is local itself."""
    return dict(scope) if "<locals>" in definition.__qualname__ else {}


def unknown_name(error: NameError) -> str:
    """Explain how to correct an annotation with a name that is not defined."""
    return (
        f"the annotation of its payload names {error.name!r}, which is not known where the task is made: "
        "define it there or at the top of its module, and import it at run time, not for type checkers alone"
    )


def _parameters(identifier: str, handler: Callable[..., object]) -> list[inspect.Parameter]:
    """Return the parameters that we have to fill, or raise `TaskInvalid` for those that we cannot."""
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(handler).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            found.append(parameter)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise TaskInvalid(
                identifier, f"no value is passed for the keyword-only parameter {parameter.name!r}"
            )
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
        function = function_of(handler)
        names = getattr(function, "__globals__", {})
        return get_type_hints(annotated, names, locals_of(function, scope), include_extras=True)["payload"]
    except NameError as error:
        raise TaskInvalid(identifier, unknown_name(error)) from error


def _batch_type(identifier: str, payload_type: Any) -> Any:
    core = core_of(payload_type)
    if core is Any or core in _LISTS:
        return list[Any]
    if origin_of(core) in _LISTS:
        return list[get_args(core)[0]]  # type: ignore[misc]  # a type that is known only at run time
    raise TaskInvalid(
        identifier,
        f"the payload of a batch is a list of items, as in list[Document], not {name_of(payload_type)}",
    )


_LISTS = (list, MutableSequence, Sequence, Collection, Iterable)
"""The types that a batch handler may declare for its list."""


def _is_async(handler: object) -> bool:
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
