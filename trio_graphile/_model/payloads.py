"""Payloads: converts values of a task's type to JSON text, and back.

No exception that is raised here shows a value of a payload, not even by its context: payloads hold secrets,
while errors are logged and stored.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from json import JSONDecodeError
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import attrs

from trio_graphile._model.annotations import name_of
from trio_graphile._model.json import decode, encode_finite
from trio_graphile._model.shape import Shape, Unfit
from trio_graphile._model.shapes import Shapes

T = TypeVar("T")
UnknownKeys: TypeAlias = Literal["refuse", "ignore"]


class PayloadMismatch(Exception):
    """A payload does not fit its type; `reasons` say where and why."""

    def __init__(self, reasons: Iterable[str]) -> None:
        super().__init__(*reasons)
        self.reasons: tuple[str, ...] = self.args


@attrs.frozen(eq=False)
class PayloadFormat(Generic[T]):
    """Converts payloads of one type to JSON text, and back. `PayloadFormats` makes it."""

    payload_type: Any
    _shape: Shape
    _reserved: frozenset[str]
    """The reserved keys that are removed from a payload, or from the items of an array."""
    _reserved_of_items: frozenset[str]

    def to_json(self, payload: T) -> str:
        """Return the JSON text of a payload, which `from_json` can read. Raises `PayloadMismatch`.

        Each part is checked as it is written. If a class runs code of its own when its values are made, only
        making one shows the result, so such payloads are read back.
        """
        if payload is None and self.payload_type is types.NoneType:
            return "{}"  # the database stores this for a job without payload
        text = self._written(payload)
        if not self._shape.is_faithful and self._written(self.from_json(text)) != text:
            raise PayloadMismatch(["another value when read back @ $"])
        return text

    def from_json(self, text: str) -> T:
        """Return the payload in a JSON text. Raises `PayloadMismatch`."""
        try:
            value = decode(text)
            if type(value) is not dict or not self._reserved.isdisjoint(value):  # else there is nothing to do
                value = self._stripped(value)
            if self.payload_type is types.NoneType and value == {}:
                value = None
            return self._shape.read(value)  # type: ignore[no-any-return]
        except Exception as error:  # noqa: BLE001  # no error may show a part of the payload
            reasons = _reasons(error, f"made into {name_of(self.payload_type)}")
        raise PayloadMismatch(reasons)  # outside of the except block, whose error would become its context

    def _written(self, payload: T) -> str:
        try:
            plain = self._shape.write(payload)
        except Exception as error:  # noqa: BLE001  # attributes of a payload may run any code
            reasons = _reasons(error, f"written as {name_of(self.payload_type)}")
        else:
            try:
                return encode_finite(plain)
            except ValueError as error:
                reasons = [str(error)]
            except RecursionError as error:
                reasons = _reasons(error, "written")
        raise PayloadMismatch(reasons)  # as above

    def _stripped(self, value: Any) -> Any:
        if type(value) is list and self._reserved_of_items:
            return [_without(item, self._reserved_of_items) for item in value]
        return _without(value, self._reserved)


@attrs.frozen(init=False)
class PayloadFormats:
    """Makes the formats of the payload types of a registry."""

    unknown_keys: UnknownKeys
    _shapes: Shapes = attrs.field(eq=False, repr=False)

    def __init__(self, unknown_keys: UnknownKeys) -> None:
        self.__attrs_init__(unknown_keys, Shapes(refuse_unknown=unknown_keys == "refuse"))

    def format_for(self, payload_type: Any, scope: Mapping[str, Any]) -> PayloadFormat[Any]:
        """Return the format of a type.

        `scope` holds the local names that its annotations may use. Raises `NameError` for names that are not
        defined there, and `Unstorable` for a type whose values would not come back from JSON.
        """
        shape = self._shapes.of(payload_type, scope)
        # A peer's tracing marks each item of an array.
        of_items = frozenset[str]() if shape.items is None else shape.items.foreign_keys
        return PayloadFormat(payload_type, shape, shape.foreign_keys, of_items)


def _without(value: Any, keys: frozenset[str]) -> Any:
    if type(value) is not dict or keys.isdisjoint(value):
        return value
    return {key: item for key, item in value.items() if key not in keys}


def _reasons(error: Exception, doing: str) -> list[str]:
    """Return what is wrong and where, one line each."""
    match error:
        case Unfit():
            return [f"{reason} @ ${path}" for path, reason in error.mistakes]
        case JSONDecodeError():
            return ["not JSON @ $"]
        case RecursionError():
            return ["nested too deeply, or a part of itself @ $"]
        case _:  # whose text may show the value
            return [f"{type(error).__name__} when {doing} @ $"]
