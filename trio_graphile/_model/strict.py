"""A cattrs converter that takes types at their word: `"5"` is no `int`, `"ab"` no list of strings."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from typing import Any, TypeAlias, Union

import attrs
from cattrs.cols import (
    is_namedtuple,
    iterable_unstructure_factory,
    mapping_structure_factory,
    mapping_unstructure_factory,
)
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn
from cattrs.gen.typeddicts import make_dict_structure_fn as make_typed_dict_structure_fn
from cattrs.preconf.orjson import OrjsonConverter, make_converter

Hook: TypeAlias = Callable[[Any, Any], Any]

# What comes as text in JSON. All of their errors show the text.
_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    bytes: lambda text: base64.b64decode(text, validate=True),
    decimal.Decimal: decimal.Decimal,
    pathlib.Path: pathlib.Path,
    uuid.UUID: uuid.UUID,
}
_MODULES = re.compile(r"\b(?:\w+\.)+(?=\w)")
_PLAIN_MAPPINGS = frozenset({dict, Mapping, MutableMapping})


class Mismatch(ValueError):
    """A value of the wrong type; its text names types only."""


def strict_converter(*, forbid_extra_keys: bool) -> OrjsonConverter:
    """Return a converter whose errors name each mistake with its path."""
    converter = make_converter(forbid_extra_keys=forbid_extra_keys, detailed_validation=True)
    for text_type, read in _FROM_TEXT.items():
        converter.register_structure_hook(text_type, _text_hook(text_type, read))
    for written in (decimal.Decimal, pathlib.Path):
        converter.register_unstructure_hook(written, str)
    for moment in (dt.datetime, dt.time):  # orjson cuts seconds from offsets, and knows no times with one
        converter.register_unstructure_hook(moment, _in_iso_format)
    converter.register_unstructure_hook(bytes, lambda value: base64.b64encode(value).decode())
    for primitive in (str, bool, int):
        converter.register_structure_hook(primitive, _exact_hook(primitive))
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook_func(
        lambda wanted: wanted is types.NoneType, _exact_hook(types.NoneType)
    )
    converter.register_structure_hook_func(lambda wanted: wanted is object, lambda value, _: value)
    converter.register_unstructure_hook_func(
        lambda wanted: wanted is object,
        lambda value: value if type(value) is object else converter.unstructure(value),
    )
    _guard_objects(converter)
    _read_named_tuples(converter)
    _guard_arrays(converter)
    _leave_what_does_not_fit(converter)
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


def _in_iso_format(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (dt.datetime, dt.time)) else value


def _text_hook(wanted: type, read: Callable[[str], Any]) -> Hook:
    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, str):
            raise Mismatch(expected(wanted, value))
        try:
            return read(value)
        except (ValueError, ArithmeticError):
            raise Mismatch(f"not the text of a {name_of(wanted)}") from None

    return structure


def _guard_objects(converter: OrjsonConverter) -> None:
    """Say what is wrong with `5` for a class at once, not of each of its fields."""

    def guarded(wanted: Any, structure: Hook) -> Hook:
        def structure_object(value: Any, as_type: Any) -> Any:
            if type(value) is not dict:
                raise Mismatch(expected(wanted, value))
            return structure(value, as_type)

        return structure_object

    def make_mapping(wanted: Any) -> Hook:
        return guarded(wanted, mapping_structure_factory(wanted, converter))

    def make_class(wanted: Any) -> Hook:
        if attrs.has(origin := origin_of(wanted)):
            attrs.resolve_types(origin)
        return guarded(wanted, make_dict_structure_fn(wanted, converter))

    def make_typed_dict(wanted: Any) -> Hook:
        return guarded(wanted, make_typed_dict_structure_fn(wanted, converter))

    converter.register_structure_hook_factory(lambda t: origin_of(t) in _PLAIN_MAPPINGS, make_mapping)
    converter.register_structure_hook_factory(is_class_with_fields, make_class)
    converter.register_structure_hook_factory(lambda t: typing.is_typeddict(origin_of(t)), make_typed_dict)


def _read_named_tuples(converter: OrjsonConverter) -> None:
    """By what their annotations mean, which may be texts; cattrs takes those as they stand there."""

    def fields_of(wanted: Any) -> Any:
        return tuple[tuple(typing.get_type_hints(wanted, include_extras=True).values())]  # type: ignore[misc]  # made of what is there

    def make_structure(wanted: Any) -> Hook:
        fields = fields_of(wanted)
        structure = converter.get_structure_hook(fields)
        return lambda value, _: wanted(*structure(value, fields))

    def make_unstructure(wanted: Any) -> Callable[[Any], Any]:
        unstructure = converter.get_unstructure_hook(fields_of(wanted))
        return lambda value: unstructure(value) if isinstance(value, wanted) else value

    converter.register_structure_hook_factory(is_namedtuple, make_structure)
    converter.register_unstructure_hook_factory(is_namedtuple, make_unstructure)


def _guard_arrays(converter: OrjsonConverter) -> None:
    """Keep a string from being taken for its characters."""
    being_made: set[Any] = set()

    def applies(wanted: Any) -> bool:
        return is_array(wanted) and wanted not in being_made

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


def _leave_what_does_not_fit(converter: OrjsonConverter) -> None:
    """Pass a wrong value on as it is: when it is read back, it fails with its path."""

    def make_object(wanted: Any) -> Callable[[Any], Any]:
        unstructure, cls = make_dict_unstructure_fn(wanted, converter), origin_of(wanted)
        return lambda value: unstructure(value) if isinstance(value, cls) else value

    def make_mapping(wanted: Any) -> Callable[[Any], Any]:
        # Without the key handler of cattrs, which would turn {1: ...} into {"1": ...}.
        unstructure = mapping_unstructure_factory(wanted, converter)
        return lambda value: unstructure(value) if isinstance(value, Mapping) else value

    def make_array(wanted: Any) -> Callable[[Any], Any]:
        unstructure = iterable_unstructure_factory(wanted, converter, unstructure_to=list)
        unfit = (str, bytes, Mapping)
        return lambda value: (
            unstructure(value) if isinstance(value, Iterable) and not isinstance(value, unfit) else value
        )

    converter.register_unstructure_hook_factory(is_class_with_fields, make_object)
    converter.register_unstructure_hook_factory(is_mapping, make_mapping)
    converter.register_unstructure_hook_factory(is_homogeneous, make_array)


def expected(wanted: Any, value: object) -> str:
    return f"expected {name_of(wanted)}, not {name_of(type(value))}"


def name_of(wanted: Any) -> str:
    if wanted is types.NoneType:
        return "None"
    return wanted.__qualname__ if isinstance(wanted, type) else _MODULES.sub("", str(wanted))


def origin_of(wanted: Any) -> Any:
    return typing.get_origin(wanted) or wanted


def is_union(wanted: Any) -> bool:
    return origin_of(wanted) in (Union, types.UnionType)


def is_class_with_fields(wanted: Any) -> bool:
    origin = origin_of(wanted)
    return isinstance(origin, type) and (attrs.has(origin) or is_dataclass(origin))


def is_mapping(wanted: Any) -> bool:
    return (
        isinstance(origin := origin_of(wanted), type)
        and issubclass(origin, Mapping)
        and not typing.is_typeddict(origin)
    )


def is_array(wanted: Any) -> bool:
    origin = origin_of(wanted)
    if not isinstance(origin, type) or issubclass(origin, (str, bytes, bytearray)):
        return False
    return issubclass(origin, (Sequence, AbstractSet))


def is_homogeneous(wanted: Any) -> bool:
    if not is_array(wanted) or is_namedtuple(origin_of(wanted)):
        return False
    members = typing.get_args(wanted)
    return origin_of(wanted) is not tuple or (len(members) == 2 and members[1] is ...)


def class_of(wanted: Any) -> type | None:
    """Return the class that a payload must be an instance of before its parts are looked at."""
    return origin_of(wanted) if is_class_with_fields(wanted) or is_namedtuple(origin_of(wanted)) else None
