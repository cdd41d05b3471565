"""The options of an entry: the part of its line after the question mark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote_plus

import attrs

from trio_graphile._cron.fields import Unreadable
from trio_graphile._cron.item import LONGEST_BACKFILL, CronItem
from trio_graphile._cron.zones import load_zone
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import JobKeyMode, JobSpec
from trio_graphile._model.similar import did_you_mean

_PAIR = re.compile(r"([0-9]+)([wdhms])")
_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _decode(text: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise ValueError("% is followed by two hexadecimal digits; the sign itself is %25")
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("what is written with % is not UTF-8") from None


def _read_name(text: str) -> str:
    if not (name := _decode(text)) or "\0" in name:
        raise ValueError("a text is needed")
    return name


def _read_zone(text: str) -> str:
    zone = _decode(text).replace(" ", "+")  # Etc/GMT+1: in a query, + is a space, and no zone has one
    load_zone(zone)
    return zone


def _read_period(text: str) -> float:
    pairs = _PAIR.findall(text)
    if not pairs or "".join(map("".join, pairs)) != text:
        raise ValueError(f"{text!r} is no duration such as 1w2d3h4m5s")
    period = sum(int(number[:12]) * _UNITS[unit] for number, unit in pairs)
    if period > LONGEST_BACKFILL:
        raise ValueError(f"{text!r} is over ten years")
    return float(period)


def _read_number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(f"a whole number is needed, not {text!r}")
    return int(text)


def _read_mode(text: str) -> JobKeyMode:
    modes = (JobKeyMode.REPLACE, JobKeyMode.PRESERVE_RUN_AT)
    if text not in modes:
        raise ValueError(f"right are {' and '.join(modes)}, not {text!r}")
    return JobKeyMode(text)


def _read_flags(text: str) -> tuple[str, ...]:
    return tuple(map(_read_name, text.split(",")))


@attrs.frozen
class _Option:
    """The spellings of one option, first the one that we write and Node reads, and how its value is read."""

    keys: tuple[str, ...]
    read: Callable[[str], Any]


_OF_ITEM = {
    "identifier": _Option(("id",), _read_name),
    "zone": _Option(("tz",), _read_zone),
    "backfill_period": _Option(("fill",), _read_period),
}
_OF_SPEC = {
    "max_attempts": _Option(("max",), _read_number),
    "queue_name": _Option(("queue",), _decode),
    "priority": _Option(("priority",), _read_number),
    "job_key": _Option(("jobKey", "job_key"), _decode),
    "job_key_mode": _Option(("jobKeyMode", "job_key_mode"), _read_mode),
    "flags": _Option(("flags",), _read_flags),
}
_OPTIONS = {**_OF_ITEM, **_OF_SPEC}
_NAMES = {key: name for name, option in _OPTIONS.items() for key in option.keys}


@attrs.define
class Settings:
    """The values of the options of an entry, and the mistakes in them."""

    item: dict[str, Any] = attrs.field(factory=dict)
    spec: dict[str, Any] = attrs.field(factory=dict)
    wrong: list[Unreadable] = attrs.field(factory=list)


def parse_settings(text: str) -> Settings:
    """Read a text of options, without the question mark."""
    settings = Settings()
    seen: set[str] = set()
    offset = 0
    for part in text.split("&") if text else ():
        try:
            _read_into(settings, part, seen)
        except ValueError as error:
            settings.wrong.append(Unreadable(offset, str(error)))
        offset += len(part) + 1
    return settings


def _read_into(settings: Settings, part: str, seen: set[str]) -> None:
    key, equals, value = part.partition("=")
    name = _NAMES.get(key)
    if name is None:
        raise ValueError(f"there is no option {key!r}{did_you_mean(key, _NAMES)}")
    if not equals:
        raise ValueError(f"{key}: a value is needed, as in {key}=...")
    if name in seen:
        raise ValueError(f"{key} stands twice: leave one out")
    seen.add(name)
    try:
        found = _OPTIONS[name].read(value)
        if name in _OF_SPEC:
            JobSpec(**{name: found})
    except OptionInvalid as error:
        raise ValueError(f"{key}: {error.reason}") from None
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    (settings.item if name in _OF_ITEM else settings.spec)[name] = found


def format_settings(item: CronItem) -> str:
    """Return the options of an entry with the question mark; nothing if all have their defaults."""
    pairs = [f"{_OPTIONS[name].keys[0]}={value}" for name, value in _unusual(item).items()]
    return "?" + "&".join(pairs) if pairs else ""


def _unusual(item: CronItem) -> Mapping[str, str]:
    """Return the options that differ from their defaults, as text."""
    spec = item.spec
    written: dict[str, str | None] = {
        "identifier": _quote(item.identifier) if item.identifier != item.task_identifier else None,
        "zone": _quote(item.zone) if item.zone != "UTC" else None,
        "backfill_period": "".join(_period(int(item.backfill_period))) or None,
        "max_attempts": _text(spec.max_attempts),
        "queue_name": None if spec.queue_name is None else _quote(spec.queue_name),
        "priority": _text(spec.priority),
        "job_key": None if spec.job_key is None else _quote(spec.job_key),
        "job_key_mode": None if spec.job_key_mode is JobKeyMode.REPLACE else spec.job_key_mode.value,
        "flags": ",".join(map(_quote, spec.flags)) if spec.flags else None,
    }
    return {name: value for name, value in written.items() if value is not None}


def _quote(text: str) -> str:
    return quote(text, safe="/:")


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _period(seconds: int) -> Iterator[str]:
    for unit, size in _UNITS.items():
        count, seconds = divmod(seconds, size)
        if count:
            yield f"{count}{unit}"
