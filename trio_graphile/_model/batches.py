"""Batches: jobs of many items. Says which items failed, and which are tried again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from json import JSONDecoder
from typing import TypeAlias

from trio_graphile._model.counted import counted
from trio_graphile._model.failures import Failure, describe_error, storable, verdict_of

BatchResult: TypeAlias = Sequence[BaseException | None] | None
"""The result of a batch handler: None if all items succeeded, else None or an exception for each item."""

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = JSONDecoder()


def split_array(text: str) -> list[str]:
    """Return the JSON text of each item of an array, exactly as the array has it."""
    items: list[str] = []
    position = _skip_space(text, text.index("[") + 1)
    while text[position] != "]":
        _, end = _DECODER.raw_decode(text, position)
        items.append(text[position:end])
        position = _skip_space(text, end)
        if text[position] == ",":
            position = _skip_space(text, position + 1)
    return items


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def check_result(result: object, count: int) -> str | None:
    """Return what is wrong with the result of a batch handler for so many items; None if nothing is."""
    right = "None, or a list with None or an exception for each item"
    if result is None:
        return None
    if isinstance(result, (str, bytes)) or not isinstance(result, Sequence):
        return f"its handler returned {type(result).__qualname__}; expected {right}"
    if len(result) != count:
        results, items = counted(len(result), "result"), counted(count, "item")
        return f"its handler returned {results} for {items}; expected {right}"
    for index, item in enumerate(result):
        if item is not None and not isinstance(item, BaseException):
            return f"its handler returned {type(item).__qualname__} for item {index}; expected {right}"
    return None


def batch_failure(result: BatchResult, payload_json: str, home: str | None = None) -> Failure | None:
    """Return the failure that the results of a batch mean; None if all items succeeded.

    The next attempt gets the failed items, as they were written and in their order.
    """
    failed = {index: error for index, error in enumerate(result or ()) if error is not None}
    if result is None or not failed:
        return None
    texts = "; ".join(f"{index}: {describe_error(error, home)}" for index, error in failed.items())
    verdict, seconds = verdict_of(list(failed.values()))
    items = split_array(payload_json)
    return Failure(
        storable(f"{len(failed)} of {counted(len(result), 'item')} failed: {texts}"),
        verdict,
        seconds,
        payload_json="[" + ",".join(items[index] for index in failed) + "]",
    )
