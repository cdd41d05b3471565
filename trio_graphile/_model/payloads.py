"""Payloads: from a task's type to JSON text and back.

Nothing that is raised here shows a value of a payload, not even by its context: payloads hold secrets, while
errors are logged and stored.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from json import JSONDecodeError
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import attrs
from cattrs import ForbiddenExtraKeysError, StructureHandlerNotFoundError, transform_error
from cattrs.preconf.orjson import OrjsonConverter

from trio_graphile._model.faithful import Fits, TypeReader, Unfaithful, differences
from trio_graphile._model.json import decode, encode, encode_finite
from trio_graphile._model.strict import (
    Hook,
    Mismatch,
    class_of,
    expected,
    is_class_with_fields,
    is_homogeneous,
    is_mapping,
    is_union,
    name_of,
    origin_of,
    strict_converter,
)
from trio_graphile._model.unions import tell_members_apart

T = TypeVar("T")
UnknownKeys: TypeAlias = Literal["refuse", "ignore"]

RESERVED_KEYS = frozenset({"_cron", "_trace"})
"""What crontabs and tracing put beside a payload's own keys."""


class PayloadMismatch(Exception):
    """A payload and its type do not fit; `reasons` say where and why."""

    def __init__(self, reasons: Iterable[str]) -> None:
        super().__init__(*reasons)
        self.reasons: tuple[str, ...] = self.args


@attrs.frozen(eq=False)
class PayloadFormat(Generic[T]):
    """How payloads of one type become JSON text and come back. Made by `PayloadFormats`."""

    payload_type: Any
    _wanted_class: type | None
    """What a payload must be an instance of before its parts are looked at."""
    _structure: Hook
    _unstructure: Callable[[Any], Any]
    _fits: Fits
    """Whether a payload is certain to come back as itself."""
    _reserved: _Reserved

    def to_json(self, payload: T) -> str:
        """Return the JSON text of a payload, which comes back as itself. Raises `PayloadMismatch`."""
        if payload is None and self.payload_type is types.NoneType:
            return "{}"  # what the database stores for a job without payload
        text = self._certain_json(payload)
        return self._read_back(payload) if text is None else text

    def _certain_json(self, payload: T) -> str | None:
        """Return the JSON text of a payload that need not be read back, None for any other."""
        try:
            return encode_finite(self._unstructure(payload)) if self._fits(payload) else None
        except Exception:  # noqa: BLE001  # nested too deeply, say: the longer way tells what is wrong
            return None

    def _read_back(self, payload: T) -> str:
        """Return the JSON text of a payload after looking at what it comes back as."""
        if self._wanted_class is not None and not isinstance(payload, self._wanted_class):
            raise PayloadMismatch([f"{expected(self.payload_type, payload)} @ $"])
        text = self._encoded(payload)
        back = self.from_json(text)
        try:
            reason = next(differences(payload, back, "$"), None)
        except Exception as error:  # noqa: BLE001  # comparing values may run anybody's code
            reason = f"{type(error).__name__} when compared with what comes back @ $"
        if reason is not None:
            raise PayloadMismatch([reason])
        return text

    def from_json(self, text: str) -> T:
        """Return the payload in a JSON text. Raises `PayloadMismatch`."""
        try:
            value = self._reserved.strip(decode(text))
            if self.payload_type is types.NoneType and value == {}:
                value = None
            return self._structure(value, self.payload_type)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001  # validators and converters are anybody's code
            reasons = _explain(error, self.payload_type)
        raise PayloadMismatch(reasons)  # outside of the except block, whose error would be its context

    def _encoded(self, payload: T) -> str:
        try:
            plain = self._unstructure(payload)
        except Exception as error:  # noqa: BLE001  # reading a payload's attributes may run anybody's code
            reason = f"{type(error).__name__} when written as {name_of(self.payload_type)} @ $"
        else:
            try:
                return encode(plain)
            except ValueError as error:
                reason = str(error)
        raise PayloadMismatch([reason])


@attrs.frozen(init=False)
class PayloadFormats:
    """Makes the formats of a registry's payload types."""

    unknown_keys: UnknownKeys
    _converter: OrjsonConverter = attrs.field(eq=False, repr=False)

    def __init__(self, unknown_keys: UnknownKeys) -> None:
        converter = strict_converter(forbid_extra_keys=unknown_keys == "refuse")
        tell_members_apart(converter)
        self.__attrs_init__(unknown_keys, converter)

    def format_for(self, payload_type: Any) -> PayloadFormat[Any]:
        """Return the format of a type.

        Raises `NameError` for one with names that mean nothing where it stands, and `Unfaithful` for one
        that may come back from JSON as something else.
        """
        form = TypeReader().read(payload_type)
        try:
            structure = self._converter.get_structure_hook(payload_type)
            unstructure = self._converter.get_unstructure_hook(payload_type)
        except StructureHandlerNotFoundError as error:
            raise Unfaithful(f"JSON cannot be read as {name_of(error.type_)} @ $") from error
        except SyntaxError as error:  # cattrs makes the name of a function of the arguments' text
            raise Unfaithful(
                f"{name_of(payload_type)}: a generic class takes no type with a Literal inside: write "
                'a subclass, as in class Cats(Box[list[Literal["cat"]]]) @ $'
            ) from error
        return PayloadFormat(
            payload_type,
            class_of(payload_type),
            structure,
            unstructure,
            form.fits,
            _reserved_of(payload_type),
        )


@attrs.frozen
class _Reserved:
    """The reserved keys that a type does not know: of the payload itself and of the items of an array."""

    keys: frozenset[str]
    keys_of_items: frozenset[str]

    def strip(self, value: Any) -> Any:
        if type(value) is dict:
            return value if self.keys.isdisjoint(value) else _without(value, self.keys)
        if type(value) is list and self.keys_of_items:
            return [_without(item, self.keys_of_items) for item in value]
        return value


def _without(value: Any, keys: frozenset[str]) -> Any:
    if type(value) is not dict or keys.isdisjoint(value):
        return value
    return {key: item for key, item in value.items() if key not in keys}


def _reserved_of(wanted: Any) -> _Reserved:
    items = [member for member in typing.get_args(wanted) if member is not ...]
    # A peer's tracing marks each item of an array.
    of_items = _unknown_to(items[0]) if is_homogeneous(wanted) and items else frozenset()
    return _Reserved(_unknown_to(wanted), of_items)


def _unknown_to(wanted: Any) -> frozenset[str]:
    """Return the reserved keys that objects of a type lose: all but its fields, none of a plain dict's."""
    origin = origin_of(wanted)
    if origin is typing.Annotated:
        return _unknown_to(typing.get_args(wanted)[0])
    if is_union(wanted):
        return frozenset.intersection(*map(_unknown_to, typing.get_args(wanted)))
    if origin is Any or origin is object or is_mapping(wanted):
        return frozenset()
    if typing.is_typeddict(origin):
        return RESERVED_KEYS.difference(origin.__annotations__)
    if is_dataclass(origin):
        return RESERVED_KEYS.difference(field.name for field in dataclass_fields(origin))
    if is_class_with_fields(origin):
        return RESERVED_KEYS.difference(field.name for field in attrs.fields(origin))
    return RESERVED_KEYS


def _explain(error: Exception, wanted: Any) -> list[str]:
    """Return what is wrong and where, one line each."""

    def explain(error: BaseException, part: Any) -> str:
        match error:
            case Mismatch():
                return str(error)
            case JSONDecodeError():
                return "not JSON"
            case KeyError():
                return "required, but missing"
            case ForbiddenExtraKeysError():
                return "unknown: " + ", ".join(map(repr, sorted(error.extra_fields)))
            case _:  # whose text may show the value
                made_into = "an object" if part is None else name_of(part)
                return f"{type(error).__name__} when made into {made_into}"

    if isinstance(error, BaseExceptionGroup):
        return transform_error(error, format_exception=explain)
    return [f"{explain(error, wanted)} @ $"]
