"""Limits for the values of requests.

They are defined once, enforced when values are read, and shown in the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs


@attrs.frozen
class Between:
    """A number within limits, both included."""

    least: float
    most: float

    def complaint(self, value: float) -> str | None:
        """Return what is wrong with a value, if something is."""
        if self.least <= value <= self.most:
            return None
        return f"a number from {self.least} to {self.most} is needed"

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of it."""
        return {"minimum": self.least, "maximum": self.most}


@attrs.frozen
class Length:
    """A text of a limited length."""

    least: int
    most: int

    def complaint(self, value: str) -> str | None:
        """Return what is wrong with a value, if something is."""
        if self.least <= len(value) <= self.most:
            return None
        if len(value) < self.least:
            return "it is empty"
        return f"{len(value)} characters are over the limit of {self.most}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of it."""
        return {"minLength": self.least, "maxLength": self.most}


@attrs.frozen
class Items:
    """An array with a limited number of items."""

    most: int

    def complaint(self, value: Sequence[object]) -> str | None:
        """Return what is wrong with a value, if something is."""
        return None if len(value) <= self.most else f"{len(value)} are over the limit of {self.most}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of it."""
        return {"maxItems": self.most}


@attrs.frozen
class NotBlank:
    """A text that is not only white space."""

    def complaint(self, value: str) -> str | None:
        """Return what is wrong with a value, if something is."""
        return None if value.strip(_BLANK) else "it is blank"

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of it."""
        return {"pattern": rf"^[^\x00]*[^\x00{_BLANK}][^\x00]*$"}


_BLANK = " \t\r\n"


Limit = Between | Length | Items | NotBlank


@attrs.frozen(kw_only=True)
class Rule:
    """A rule about several fields of one request.

    If the field `when` is given (and is one of `values`, if there are some; without `when` always), one of
    `needed` must be given, and none of `forbidden` may be true or filled. An empty array counts as not given.
    """

    when: str | None = None
    values: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    text: str
    """The message for a request that breaks the rule."""

    def is_broken_by(self, value: Any) -> bool:
        """Return whether a request breaks the rule."""
        if self.when is not None:
            given = getattr(value, self.when)
            if not _is_given(given) or (self.values and given not in self.values):
                return False
        if any(_is_given(getattr(value, name)) for name in self.forbidden):
            return True
        return bool(self.needed) and not any(_is_given(getattr(value, name)) for name in self.needed)

    def schema(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON schema of it, for an object with these properties."""
        parts: list[dict[str, Any]] = []
        if self.needed:
            parts.append({"anyOf": [_given(name, properties) for name in self.needed]})
        parts += [{"not": _given(name, properties)} for name in self.forbidden]
        wanted = parts[0] if len(parts) == 1 else {"allOf": parts}
        if self.when is None:
            return wanted
        condition = {"const": self.values[0]} if len(self.values) == 1 else {"enum": [*self.values]}
        is_met = (
            {"required": [self.when], "properties": {self.when: condition}}
            if self.values
            else _given(self.when, properties)
        )
        return {"if": is_met, "then": wanted}


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value != []


def _given(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    match properties[name]:
        case {"type": "array"}:
            filled: dict[str, Any] = {"minItems": 1}
        case {"type": "boolean"}:
            filled = {"const": True}
        case _:
            filled = {"not": {"type": "null"}}
    return {"required": [name], "properties": {name: filled}}
