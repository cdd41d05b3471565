"""Hides parts of payloads: by a function of the user's, and by the names of secrets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeAlias

from trio_graphile.admin._safety.redaction import DEFAULT_NAMES, MOST_LEVELS, Names, redact

logger = logging.getLogger("trio_graphile.admin")

Redact: TypeAlias = Callable[[str, Any], Any]
"""Takes the identifier of a task and a payload as plain Python values; returns what may be shown."""


class _Number(float):
    """A number that keeps its text."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


def shown_payload(
    text: str, task_identifier: str, *, names: Names = DEFAULT_NAMES, function: Redact | None = None
) -> str:
    """Return the JSON text of a payload with its secrets hidden.

    The function comes first, then the names. Parts that the function does not change are shown as stored,
    except that of a key that stands twice in one object it sees only the last. If it raises, nothing of the
    payload is shown.
    """
    if function is None:
        return redact(text, names)
    try:
        value = json.loads(text, parse_float=_Number)
        seen = "".join(_encode(function(task_identifier, value), 0))
    except Exception as error:  # noqa: BLE001  # the user's code may raise anything
        # Neither its text nor its traceback is logged: they may show the payload.
        logger.error(  # noqa: TRY400  # without the traceback
            "the redaction of a payload of task %r raised %s", task_identifier, type(error).__name__
        )
        return json.dumps(f"[not shown: its redaction raised {type(error).__name__}]")
    return redact(seen, names)


def _encode(value: object, depth: int) -> Iterator[str]:
    if depth > MOST_LEVELS:
        raise ValueError("nested too deeply, or a part of itself")
    match value:
        case _Number():
            yield value.text
        case dict():
            yield "{"
            for index, (key, item) in enumerate(value.items()):
                yield f"{', ' if index else ''}{json.dumps(str(key), ensure_ascii=False)}: "
                yield from _encode(item, depth + 1)
            yield "}"
        case list() | tuple():
            yield "["
            for index, item in enumerate(value):
                yield ", " if index else ""
                yield from _encode(item, depth + 1)
            yield "]"
        case _:
            yield json.dumps(value, ensure_ascii=False, allow_nan=False)
