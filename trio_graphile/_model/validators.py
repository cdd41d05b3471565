"""Checks of values that programs give, so that a wrong one does not fail far from its cause."""

from __future__ import annotations

import math
from typing import Any, get_args

import attrs

from trio_graphile._exceptions import OptionInvalid


def described(value: object) -> str:
    """Return words for a value that show nothing of it: it may have been mixed up with a payload."""
    return "None" if value is None else f"a value of the type {type(value).__qualname__}"


def check_kind(option: str, value: object, kind: type, example: str = "") -> None:
    """Raise `OptionInvalid` unless the value is of this kind."""
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIO" else "a"
        example = example and f", such as {example}"
        raise OptionInvalid(option, f"{article} {kind.__name__} is needed{example}, not {described(value)}")


def check_one_of(option: str, value: object, words: Any) -> None:
    """Raise `OptionInvalid` unless the value is one of the words of this `Literal`."""
    known = get_args(words)
    if value not in known:
        raise OptionInvalid(option, f"{value!r} is not one of {', '.join(map(repr, known))}")


def of_kind(kind: type) -> Any:
    """Return a validator for a field that holds values of this kind."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        check_kind(attribute.name, value, kind)

    return check


def of_kind_or_none(kind: type) -> Any:
    """Return a validator for a field that holds values of this kind, or None."""
    return attrs.validators.optional(of_kind(kind))


def function_or_none(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check a field that holds a function, or None."""
    if value is not None and not callable(value):
        raise OptionInvalid(attribute.name, f"a function is needed, not {described(value)}")


def seconds(maximum: float, *, zero: bool = False) -> Any:
    """Return a validator for a number of seconds, which also refuses milliseconds."""

    def check(_: object, attribute: attrs.Attribute[float], value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise OptionInvalid(attribute.name, f"a number of seconds is needed, not {value!r}")
        if not value >= 0 or (value == 0 and not zero):
            raise OptionInvalid(attribute.name, f"{value} is not a positive number of seconds")
        if value > maximum:
            given = value if value < 1e300 else math.inf  # a whole number may be too large to be written so
            raise OptionInvalid(
                attribute.name, f"{given:.15g} seconds are over the maximum of {maximum:.15g}"
            )

    return check


def whole_number(least: int, most: int) -> Any:
    """Return a validator for a whole number within limits."""

    def check(_: object, attribute: attrs.Attribute[int], value: int) -> None:
        if type(value) is not int:
            raise OptionInvalid(attribute.name, f"a whole number is needed, not {value!r}")
        if not least <= value <= most:
            raise OptionInvalid(attribute.name, f"{value} is not between {least} and {most}")

    return check
