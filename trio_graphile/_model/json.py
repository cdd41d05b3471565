"""JSON as PostgreSQL's `json` type holds it: text in, text out, and nothing is rounded silently."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import re
import uuid
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator


_LONG_NUMBER = re.compile(r"\d{19}")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(value: object) -> str:
    """Return the JSON text of a value; times and UUIDs become strings.

    Raises `ValueError` naming the path of the first part that JSON cannot hold.
    """
    try:
        text = encode_finite(value)
        if "null" in text:
            _refuse_unencodable(value)  # orjson writes NaN and the infinities as null
    except RecursionError:
        raise ValueError("nested too deeply, or a part of itself @ $") from None
    return text


def encode_finite(value: object) -> str:
    """Like `encode`, for a value that has no NaN or infinity and is not nested too deeply."""
    try:
        return orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
    except TypeError:
        # JSON and PostgreSQL allow integers over 64 bits; orjson does not.
        return _encode_slowly(value)


def decode(text: str) -> Any:
    """Return the value of a JSON text that PostgreSQL stores."""
    if _LONG_NUMBER.search(text):
        return json.loads(text)  # orjson turns integers over 64 bits into floats
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # A json column may hold numbers like 1e400 and lone surrogates, which other languages write.
        return json.loads(text)


def decode_if_readable(text: str) -> Any:
    """Like `decode`, but None for what Python cannot read: integers too long, or values nested too deeply."""
    try:
        return decode(text)
    except (ValueError, RecursionError):
        return None


def _encode_slowly(value: object) -> str:
    _refuse_unencodable(value)
    try:
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_orjson
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error} @ $") from error
    text.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
    return text


def _as_orjson(value: object) -> object:
    return orjson.loads(orjson.dumps(value))


def _refuse_unencodable(value: object) -> None:
    for path, reason in _unencodable(value, "$"):
        raise ValueError(f"{reason} @ {path}")


def _unencodable(value: object, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case None | bool() | int() | enum.Enum() | uuid.UUID() | dt.date() | dt.time():
            return
        case str():
            if _LONE_SURROGATE.search(value):
                yield path, "text with a lone surrogate is not valid Unicode"
        case float():
            if not math.isfinite(value):
                yield path, f"{value} is not a JSON number"
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    yield path, f"the key {key!r} is not a string"
                elif _LONE_SURROGATE.search(key):
                    yield path, "a key with a lone surrogate is not valid Unicode"
                yield from _unencodable(item, f"{path}.{key}")
        case list() | tuple():
            for index, item in enumerate(value):
                yield from _unencodable(item, f"{path}[{index}]")
        case _:
            yield path, f"{type(value).__name__} is not JSON"
