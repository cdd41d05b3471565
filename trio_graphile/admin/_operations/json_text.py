"""JSON from outside: nothing in it is guessed, dropped or rounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from trio_graphile.admin._operations.refusals import Malformed

MOST_LEVELS = 100  # of arrays and objects in each other
_SHOWN_SIZE = 40  # characters


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text. Raises `Malformed`."""
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except RecursionError:
        raise Malformed(_TOO_DEEP) from None
    except ValueError as error:  # integers of thousands of digits, too
        raise Malformed(f"malformed JSON: {error}") from None
    _check_nesting(value)
    return value


_TOO_DEEP = f"the JSON is nested deeper than {MOST_LEVELS}"


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed(f"malformed JSON: the key {key[:_SHOWN_SIZE]!a} stands twice in one object")
            seen.add(key)
    return made


def _float(text: str) -> float:
    value = float(text)
    try:
        is_exact = Decimal(text) == Decimal(repr(value))
    except InvalidOperation:  # an exponent of twenty digits
        is_exact = False
    if not is_exact:
        raise Malformed(
            f"the number {text[:_SHOWN_SIZE]} is out of range, or has more digits than a double holds"
        )
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise Malformed(f"malformed JSON: {name} is no number")


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            child
            for part in level
            if isinstance(part, (dict, list))
            for child in (part.values() if isinstance(part, dict) else part)
        ]
        if not level:
            return
    if any(isinstance(part, (dict, list)) for part in level):
        raise Malformed(_TOO_DEEP)
