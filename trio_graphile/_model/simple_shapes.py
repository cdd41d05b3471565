"""The shapes of types without parts: JSON's own types, types that become text, enums and literals."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import enum
import math
import pathlib
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any, Literal

from trio_graphile._model.annotations import expected, name_of
from trio_graphile._model.shape import Shape, Unfit, Unstorable

_DEEPEST = 500
"""How many levels deep a value without a declared type may be, since a worker reads it recursively."""
_ATOMS = (str, bool, int, float, types.NoneType)
_EVERY_FORM: frozenset[type] = frozenset({*_ATOMS, list, dict})


def _atom(wanted: Any) -> Shape:
    """Return the shape of a type of JSON itself; values of subclasses become equal values of the type."""

    def read(value: Any) -> Any:
        if type(value) is not wanted:
            raise Unfit.here(expected(wanted, value))
        return value

    def write(value: Any) -> Any:
        if type(value) is wanted:
            return value
        if not isinstance(value, wanted) or type(value) is bool:
            raise Unfit.here(expected(wanted, value))
        return str.__str__(value) if wanted is str else int(value)

    only = frozenset({wanted})
    return Shape(
        wanted=wanted, write=write, read=read, classes=(wanted,), forms=only, exact=only, is_plain=True
    )


def _read_float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise Unfit.here(expected(float, value))
    try:
        return float(value)
    except OverflowError:
        raise Unfit.here("too large for a float") from None


def _write_float(value: Any) -> float:
    if type(value) is not float and (not isinstance(value, (float, int)) or type(value) is bool):
        raise Unfit.here(expected(float, value))
    number = _read_float(value) if isinstance(value, int) else float(value)
    if not math.isfinite(number):
        raise Unfit.here(f"{number} is not a JSON number")
    if number != value:
        raise Unfit.here("a whole number that no float equals")
    return number


_FLOAT = Shape(
    wanted=float,
    write=_write_float,
    read=_read_float,
    classes=(float, int),
    forms=frozenset({float, int}),
    is_plain=True,
)


def _write_anything(value: Any) -> Any:
    _check_json(value, _DEEPEST)
    return value


def _check_json(value: Any, depth: int) -> None:
    """Raise `Unfit` for values that would come back as something else, such as a tuple or a time."""
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool:
        return
    if not depth:
        raise Unfit.here("nested too deeply, or a part of itself")
    if isinstance(value, dict):
        _check_dict(value, depth)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            try:
                _check_json(item, depth - 1)
            except Unfit as unfit:
                raise Unfit(unfit.below(f"[{index}]")) from None
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Unfit.here(f"{value} is not a JSON number")
    elif not isinstance(value, (str, int)):
        raise Unfit.here(f"{kind.__name__} is not JSON")


def _check_dict(value: dict[Any, Any], depth: int) -> None:
    for key, item in value.items():
        if not isinstance(key, str):
            raise Unfit.here(f"the key {key!r} is not a string")
        try:
            _check_json(item, depth - 1)
        except Unfit as unfit:
            raise Unfit(unfit.below(f".{key}")) from None


def _anything(wanted: Any) -> Shape:
    return Shape(
        wanted=wanted,
        write=_write_anything,
        read=lambda value: value,
        classes=(object, int),  # an int is one here, not a float, of which it is a class, too
        forms=_EVERY_FORM,
        exact=frozenset({int}),
        is_plain=True,
    )


def _text(wanted: type, to_text: Callable[[Any], str], from_text: Callable[[str], Any]) -> Shape:
    def write(value: Any) -> str:
        if not isinstance(value, wanted) or (wanted is dt.date and isinstance(value, dt.datetime)):
            raise Unfit.here(expected(wanted, value))
        return to_text(value)

    def read(value: Any) -> Any:
        if type(value) is not str:
            raise Unfit.here(expected(wanted, value))
        try:
            return from_text(value)
        except (ValueError, ArithmeticError):
            raise Unfit.here(f"not the text of a {wanted.__name__}") from None

    return Shape(wanted=wanted, write=write, read=read, classes=(wanted,), forms=frozenset({str}))


def _time_to_text(value: dt.time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Unfit.here("a time in a zone whose offset depends on the day")
    return value.isoformat()


SIMPLE_SHAPES: dict[Any, Shape] = {
    **{atom: _atom(atom) for atom in (str, bool, int, types.NoneType)},
    float: _FLOAT,
    Any: _anything(Any),
    object: _anything(object),
    dt.datetime: _text(dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: _text(dt.date, dt.date.isoformat, dt.date.fromisoformat),
    dt.time: _text(dt.time, _time_to_text, dt.time.fromisoformat),
    bytes: _text(
        bytes,
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
    decimal.Decimal: _text(decimal.Decimal, str, decimal.Decimal),
    pathlib.Path: _text(pathlib.Path, str, pathlib.Path),
    uuid.UUID: _text(uuid.UUID, str, uuid.UUID),
}


def enum_shape(wanted: type[enum.Enum], path: str) -> Shape:
    """Return the shape of an enum, whose members are stored by their values."""
    for member in wanted:
        if type(member.value) not in _ATOMS or member.value != member.value:  # as NaN is
            raise Unstorable(
                f"{wanted.__name__}.{member.name} is not JSON by its value: give it a text or a number", path
            )
    members = {(type(member.value), member.value): member for member in wanted}
    kinds = frozenset(kind for kind, _ in members)
    is_open = issubclass(wanted, enum.Flag) or "_missing_" in vars(wanted)  # more values are valid

    def write(value: Any) -> Any:
        if not isinstance(value, wanted):
            raise Unfit.here(expected(wanted, value))
        return value.value

    def read(value: Any) -> Any:
        if type(value) not in kinds:
            raise Unfit.here(expected(wanted, value))
        member = members.get((type(value), value))
        if member is None and is_open:
            member = _asked(wanted, value)
        if member is None:
            raise Unfit.here(f"not a value of {wanted.__name__}")
        return member

    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=(wanted,),
        forms=kinds,
        texts=None if is_open else frozenset(value for _, value in members),
    )


def _asked(wanted: type[enum.Enum], value: object) -> enum.Enum | None:
    """Return the member, or set of flags, that an enum itself makes of a value, if it makes one."""
    try:
        member = wanted(value)
    except Exception:  # noqa: BLE001  # anybody's code
        return None
    return member if isinstance(member, wanted) else None


def literal_values(wanted: Any) -> frozenset[object]:
    """Return the values of a literal if all of them are the same in JSON; otherwise none."""
    values = typing.get_args(wanted) if typing.get_origin(wanted) is Literal else ()
    return frozenset(values) if {type(value) for value in values} <= {str, int} else frozenset()


def literal_shape(wanted: Any, path: str) -> Shape:
    """Return the shape of a literal. No two of its values may look alike in JSON."""
    values = typing.get_args(wanted)
    written = [(value, _literal_form(value)) for value in values]
    by_form = {(type(form), form): value for value, form in written}
    if len(by_form) < len(values):
        raise Unstorable(f"two values of {name_of(wanted)} look alike in JSON: leave one out", path)
    forms = {(type(value), value): form for value, form in written}
    kinds = frozenset(kind for kind, _ in by_form)
    classes = tuple({type(value) for value in values})

    def write(value: Any) -> Any:
        if type(value) not in classes or (type(value), value) not in forms:
            raise Unfit.here(f"not one of {name_of(wanted)}")
        return forms[type(value), value]

    def read(value: Any) -> Any:
        if type(value) not in kinds or (type(value), value) not in by_form:
            raise Unfit.here(f"not one of {name_of(wanted)}")
        return by_form[type(value), value]

    return Shape(
        wanted=wanted,
        write=write,
        read=read,
        classes=classes,
        forms=kinds,
        texts=frozenset(form for _, form in written),
        is_plain=all(value is form for value, form in written),
    )


def _literal_form(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    return SIMPLE_SHAPES[type(value)].write(value)
