"""Reads requests as values: from the query of a URL, and from JSON."""

from __future__ import annotations

import enum
import functools
import re
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

import attrs
from cattrs import ForbiddenExtraKeysError, transform_error

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.annotations import core_of, expected, is_union
from trio_graphile._model.similar import did_you_mean
from trio_graphile._model.strict_converter import Mismatch, strict_converter
from trio_graphile._model.texts import flaw_of
from trio_graphile.admin._operations.refusals import Malformed

T = TypeVar("T")

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,40}")
_MOST_REASONS = 5  # in one message
_MOST_FIELDS = 1000  # in one query


def read_query(query: bytes, wanted: type[T]) -> T:
    """Return the value of the query of a URL. Raises `Malformed`."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except UnicodeDecodeError:
        raise Malformed("the query is not UTF-8") from None
    except ValueError:
        raise Malformed(f"the query has more than {_MOST_FIELDS} fields") from None
    kinds = kinds_of(wanted)  # type: ignore[arg-type]  # classes are hashable
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in kinds:
            raise Malformed(f"there is no {name[:40]!a} to ask for{did_you_mean(name[:100], [*kinds])}")
        if typing.get_origin(kinds[name]) is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise Malformed(f"{name} is given twice")
        else:
            given[name] = _number(name, value) if kinds[name] is int else value
    return read_value(given, wanted)


def _number(name: str, text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Malformed(f"{name}: a whole number is needed")
    return int(text)


def read_value(value: object, wanted: type[T]) -> T:
    """Return the value of a JSON body. Raises `Malformed`, with each mistake and its path."""
    if attrs.has(wanted) and type(value) is not dict:
        raise Malformed("the request: a JSON object is needed")
    try:
        asked: T = _converter().structure(value, wanted)
    except Exception as error:  # noqa: BLE001  # cattrs raises groups of whatever hooks raise
        raise Malformed(_explain(error)) from None
    for rule in getattr(wanted, "RULES", ()):
        if rule.is_broken_by(asked):
            raise Malformed(rule.text)
    return asked


@functools.cache
def kinds_of(wanted: Any) -> Mapping[str, Any]:
    """Return the core types of the fields of a class: without limits, and without None."""
    hints = typing.get_type_hints(wanted)
    return {field.name: _without_none(hints[field.name]) for field in attrs.fields(wanted)}


def _without_none(kind: Any) -> Any:
    kind = core_of(kind)
    if is_union(kind):
        (kind,) = (core_of(member) for member in typing.get_args(kind) if member is not type(None))
    return kind


@functools.cache
def _converter() -> Any:
    converter = strict_converter()
    converter.register_structure_hook(str, _structure_text)
    converter.register_structure_hook(int, _structure_integer)
    converter.register_structure_hook(datetime, _structure_time)
    converter.register_structure_hook_func(_is_literal, _structure_choice)

    def make_limited(wanted: Any) -> Any:
        inner, *limits = typing.get_args(wanted)
        structure = converter.get_structure_hook(inner)

        is_list = typing.get_origin(inner) is list

        def structure_limited(value: Any, _: Any) -> Any:
            if is_list and type(value) is not list:
                raise Mismatch("a list is needed, also of one")
            made = structure(value, inner)
            for limit in limits:
                complaint = limit.complaint(made)
                if complaint is not None:
                    raise Mismatch(complaint)
            return made

        return structure_limited

    converter.register_structure_hook_factory(
        lambda wanted: hasattr(wanted, "__metadata__"),
        make_limited,  # it is Annotated
    )
    return converter


def _structure_text(value: Any, wanted: Any) -> Any:
    if wanted is not str:  # an enum of texts is dispatched to its base
        return _structure_choice(value, wanted)
    if type(value) is not str:
        raise Mismatch("a text is needed")
    if flaw := flaw_of(value):
        raise Mismatch(flaw)
    return value


def _structure_integer(value: Any, _: Any) -> int:
    """Return a whole number. JSON has only one kind of numbers, so `5.0` is one."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise Mismatch(expected(int, value))
    return value


def _structure_time(value: Any, _: Any) -> datetime:
    text = value.upper() if type(value) is str else ""
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # February 30, say, or before year 1 in UTC
    raise Mismatch("a time such as 2030-01-31T08:00:00Z is needed")


def _is_literal(wanted: Any) -> bool:
    return typing.get_origin(wanted) is Literal


def is_choice(wanted: Any) -> bool:
    """Return whether a type has only some texts as values."""
    return _is_literal(wanted) or (isinstance(wanted, type) and issubclass(wanted, enum.StrEnum))


def _structure_choice(value: Any, wanted: Any) -> Any:
    is_enum = isinstance(wanted, type)
    known = choices_of(wanted)
    if type(value) is not str or value not in known:
        raise Mismatch(f"one of {', '.join(known)} is needed")
    return wanted(value) if is_enum else value


def choices_of(wanted: Any) -> list[str]:
    """Return the values of an enum of texts, or of a `Literal`."""
    if isinstance(wanted, type) and issubclass(wanted, enum.StrEnum):
        return [member.value for member in wanted]
    return [*typing.get_args(wanted)]


def _explain(error: Exception) -> str:
    def explain(error: BaseException, _: Any) -> str:
        match error:
            case OptionInvalid():
                return error.reason
            case KeyError():
                return "it is missing"
            case ForbiddenExtraKeysError():
                known = [field.name for field in attrs.fields(error.cl)]
                return "; ".join(
                    f"there is no {name[:40]!a} here{did_you_mean(name, known)}"
                    for name in sorted(error.extra_fields)[:_MOST_REASONS]
                )
            case _:
                return str(error)

    lines = [line.rpartition(" @ ") for line in transform_error(error, format_exception=explain)]
    reasons = [
        f"{path.removeprefix('$.').removeprefix('$') or 'the request'}: {text}" for text, _, path in lines
    ]
    return "; ".join(reasons[:_MOST_REASONS])
