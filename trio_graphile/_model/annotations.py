"""Annotations: their core types, the values of their type variables, and their names."""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Union

_MODULES = re.compile(r"\b(?:\w+\.)+(?=\w)")
_WRAPPERS = ("Annotated", "Final", "NotRequired", "ReadOnly", "Required")


def expected(wanted: Any, value: object) -> str:
    return f"expected {name_of(wanted)}, not {name_of(type(value))}"


def name_of(wanted: Any) -> str:
    if wanted is types.NoneType:
        return "None"
    if wanted is ...:
        return "..."
    if isinstance(wanted, type) and not isinstance(wanted, types.GenericAlias):
        return wanted.__qualname__.rpartition("<locals>.")[2]
    return _MODULES.sub("", str(wanted).replace("<locals>.", ""))


def names_of(wanted: Any) -> str:
    """Return the names of the arguments of a type, as they are written in its brackets."""
    return ", ".join(map(name_of, typing.get_args(wanted)))


def origin_of(wanted: Any) -> Any:
    return typing.get_origin(wanted) or wanted


def is_union(wanted: Any) -> bool:
    return typing.get_origin(wanted) in (Union, types.UnionType)


def members_of(wanted: Any) -> tuple[Any, ...]:
    """Return the members of a union, and those of unions inside it, including unions with names."""
    members: list[Any] = []
    for member in typing.get_args(wanted):
        core = core_of(member)
        members += [
            each for each in (members_of(core) if is_union(core) else (member,)) if each not in members
        ]
    return tuple(members)


def is_typed_dict(wanted: Any) -> bool:
    return typing.is_typeddict(origin_of(wanted))


def is_named_tuple(wanted: Any) -> bool:
    origin = origin_of(wanted)
    return isinstance(origin, type) and issubclass(origin, tuple) and hasattr(origin, "_fields")


def wrappers_of(hint: Any) -> frozenset[str]:
    """Return the qualifiers of a hint: `Required` and the like."""
    names = set()
    while (name := _wrapper(hint)) is not None:
        names.add(name)
        hint = typing.get_args(hint)[0]
    return frozenset(names)


def _wrapper(hint: Any) -> str | None:
    origin = typing.get_origin(hint)
    name = str(origin).rpartition(".")[2].partition("'")[0]
    return name if origin is not None and name in _WRAPPERS else None


def core_of(wanted: Any) -> Any:
    """Return the core type of an annotation: without qualifiers, annotations and names of aliases."""
    while True:
        if _wrapper(wanted) is not None:
            wanted = typing.get_args(wanted)[0]
        elif isinstance(wanted, typing.NewType):
            wanted = wanted.__supertype__
        elif isinstance(wanted, typing.TypeVar):
            wanted = _stand_in(wanted)
        elif _is_alias(origin_of(wanted)):
            wanted = _aliased(wanted)
        else:
            return wanted


def _is_alias(wanted: Any) -> bool:
    return type(wanted).__name__ == "TypeAliasType"  # of `typing` since Python 3.12, or of typing_extensions


def _aliased(wanted: Any) -> Any:
    alias = origin_of(wanted)
    given = dict(zip(alias.__type_params__, typing.get_args(wanted), strict=False))
    annotated = types.SimpleNamespace(__annotations__={"value": alias.__value__})  # names in it may be text
    hints = typing.get_type_hints(annotated, vars(sys.modules[alias.__module__]), include_extras=True)
    return _filled_in(hints["value"], given)


def _stand_in(variable: typing.TypeVar) -> Any:
    """Return the type that a type variable without a value stands for."""
    if getattr(variable, "has_default", lambda: False)():
        return variable.__default__  # type: ignore[attr-defined,unused-ignore]  # since Python 3.13
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007  # the members are a tuple, which has no
    return Any if variable.__bound__ is None else variable.__bound__


def _filled_in(wanted: Any, given: Mapping[Any, Any]) -> Any:
    """Return a type in which type variables are replaced by their values."""
    if isinstance(wanted, typing.TypeVar):
        return given.get(wanted, wanted)
    variables = getattr(wanted, "__parameters__", ())
    if isinstance(wanted, type) and not isinstance(wanted, types.GenericAlias):
        return wanted  # the variables of a class are its own
    return wanted[tuple(given.get(each, each) for each in variables)] if variables and given else wanted


def hints_of(wanted: Any, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of a class, with the values of its type variables.

    `scope` holds the local names that a class local to a function may use. Raises `NameError`.
    """
    origin = origin_of(wanted)
    names = dict(scope) if "<locals>" in origin.__qualname__ else None
    hints = typing.get_type_hints(origin, localns=names, include_extras=True)
    given = dict(_variables(wanted))
    return {
        name: _filled_in(hint, given.get(_owner(name, origin, given), {})) for name, hint in hints.items()
    }


def _variables(wanted: Any) -> Iterator[tuple[type, Mapping[Any, Any]]]:
    """Yield a class and its bases, each with the values of its own type variables."""
    origin = origin_of(wanted)
    given = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(wanted), strict=False))
    yield origin, given
    for base in origin.__dict__.get("__orig_bases__", origin.__bases__):
        if isinstance(origin_of(base), type) and origin_of(base) not in (object, typing.Generic, dict, tuple):
            yield from _variables(_filled_in(base, given))


def _owner(name: str, origin: type, given: dict[type, Any]) -> type:
    """Return the first class of the bases that annotates a name."""
    if typing.is_typeddict(origin):  # it repeats the annotations of its bases, but loses the bases
        return next(base for base in [*given][::-1] if name in inspect.get_annotations(base))
    return next(base for base in origin.__mro__ if name in inspect.get_annotations(base))
