"""A converter for options that does not convert types: `"5"` is no `int`, `"ab"` no list of strings."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.orjson import OrjsonConverter, make_converter

from trio_graphile._model.annotations import expected, is_union, origin_of

Hook: TypeAlias = Callable[[Any, Any], Any]

_PRIMITIVES = frozenset({str, bool, int, float, types.NoneType})


class Mismatch(ValueError):
    """A value has the wrong type. The message names only types, never the value."""


def strict_converter() -> OrjsonConverter:
    """Return a converter whose errors name each mistake with its path."""
    converter = make_converter(forbid_extra_keys=True, detailed_validation=True)
    for primitive in (str, bool, int):
        converter.register_structure_hook(primitive, _exact_hook(primitive))
    converter.register_structure_hook(float, _structure_float)
    _guard_unions(converter)
    _guard_objects(converter)
    _guard_arrays(converter)
    return converter


def _exact_hook(wanted: type) -> Hook:
    def structure(value: Any, as_type: Any) -> Any:
        if type(value) is not wanted:
            raise Mismatch(expected(as_type, value))
        return value if as_type is wanted else as_type(value)  # an IntEnum, say

    return structure


def _structure_float(value: Any, _: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise Mismatch(expected(float, value))
    return float(value)


def _guard_unions(converter: OrjsonConverter) -> None:
    """Check unions of primitives and None, where cattrs would take a bool for an int."""

    def make_optional(wanted: Any) -> Hook:
        (inner,) = (member for member in typing.get_args(wanted) if member is not types.NoneType)
        structure = converter.get_structure_hook(inner)
        return lambda value, _: None if value is None else structure(value, inner)

    def make_primitive(wanted: Any) -> Hook:
        members = frozenset(typing.get_args(wanted))

        def structure(value: Any, _: Any) -> Any:
            if type(value) in members:
                return value
            if float in members and type(value) is int:
                return float(value)
            raise Mismatch(expected(wanted, value))

        return structure

    converter.register_structure_hook_factory(_is_optional, make_optional)
    converter.register_structure_hook_factory(
        lambda wanted: is_union(wanted) and _PRIMITIVES.issuperset(typing.get_args(wanted)), make_primitive
    )


def _guard_objects(converter: OrjsonConverter) -> None:
    """Refuse a value such as `5` for a class with one mistake, not with one for each field."""

    def make_class(wanted: Any) -> Hook:
        attrs.resolve_types(wanted)
        structure = make_dict_structure_fn(wanted, converter)

        def structure_object(value: Any, as_type: Any) -> Any:
            if type(value) is not dict:
                raise Mismatch(expected(wanted, value))
            return structure(value, as_type)

        return structure_object

    converter.register_structure_hook_factory(attrs.has, make_class)


def _guard_arrays(converter: OrjsonConverter) -> None:
    """Refuse a string where a list of strings is expected."""
    being_made: set[Any] = set()

    def applies(wanted: Any) -> bool:
        return _is_array(wanted) and wanted not in being_made

    def make_structure(wanted: Any) -> Hook:
        being_made.add(wanted)  # so that cattrs answers with its own
        try:
            structure = converter.get_structure_hook(wanted, cache_result=False)
        finally:
            being_made.discard(wanted)

        def structure_array(value: Any, as_type: Any) -> Any:
            if type(value) is not list:
                raise Mismatch(expected(wanted, value))
            return structure(value, as_type)

        return structure_array

    converter.register_structure_hook_factory(applies, make_structure)


def _is_optional(wanted: Any) -> bool:
    members = typing.get_args(wanted)
    return is_union(wanted) and len(members) == 2 and types.NoneType in members


def _is_array(wanted: Any) -> bool:
    origin = origin_of(wanted)
    return isinstance(origin, type) and issubclass(origin, Sequence) and not issubclass(origin, (str, bytes))
