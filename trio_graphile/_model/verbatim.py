"""JSON for people and scripts, in which stored JSON text appears exactly as stored."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime

import attrs


@attrs.frozen
class Verbatim:
    """JSON text that is shown as it is, since its numbers may exceed every Python type."""

    text: str


def encode_shown(value: object, *, indent: int | None = None) -> str:
    """Return the JSON text of a value of ours: times as RFC 3339, payloads exactly as stored."""
    verbatim: list[str] = []
    mark = secrets.token_hex(16)  # programs that add jobs cannot know it

    def encode(part: object) -> object:
        match part:
            case Verbatim(text):
                verbatim.append(text)
                return f"{mark}{len(verbatim) - 1}"
            case datetime():
                return format_time(part)
            case tuple() | set() | frozenset():
                return list(part)
            case _:
                return attrs.asdict(part, recurse=False)  # type: ignore[arg-type]  # ours, or a TypeError

    shown = json.dumps(value, indent=indent, ensure_ascii=False, default=encode)
    return re.sub(rf'"{mark}([0-9]+)"', lambda found: verbatim[int(found[1])], shown) if verbatim else shown


def format_time(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
