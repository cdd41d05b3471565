"""Crontabs as text: reads them, naming every mistake, and writes them.

    minute hour day month weekday task ?options {payload}

An entry is one line. `CRON_TZ=Europe/Paris`, in a line of its own, is the zone of the entries below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from trio_graphile._cron.fields import Unreadable, words
from trio_graphile._cron.item import CronItem, Line
from trio_graphile._cron.mistakes import CrontabInvalid, CrontabMistake
from trio_graphile._cron.schedule import Schedule, parse_schedule
from trio_graphile._cron.settings import Settings, format_settings, parse_settings
from trio_graphile._cron.zones import load_zone
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import JobSpec
from trio_graphile._model.json import encode
from trio_graphile._model.validators import check_kind

_TASK = re.compile(r"[A-Za-z_][A-Za-z0-9_:/.-]*")
_SETTING = re.compile(r"[ \t]*([A-Za-z_]+)[ \t]*=[ \t]*(.*?)[ \t]*")
_MAX_TASK_LENGTH = 128  # characters
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@attrs.frozen
class Reading:
    """The contents of a crontab: its valid entries, and the mistakes in the others."""

    items: tuple[CronItem, ...]
    mistakes: tuple[CrontabMistake, ...]


def parse_crontab(text: str, *, source: str = "crontab") -> tuple[CronItem, ...]:
    """Return the entries of a crontab, in their order; errors call the crontab `source`.

    Raises `CrontabInvalid` with all its mistakes.
    """
    check_kind("text", text, str)
    reading = read_crontab(text, source=source)
    if reading.mistakes:
        raise CrontabInvalid(reading.mistakes)
    return reading.items


def read_crontab(text: str, *, source: str = "crontab") -> Reading:
    """Read the valid entries of a crontab, and collect the mistakes in the others."""
    items: list[CronItem] = []
    mistakes: list[CrontabMistake] = []
    zone = "UTC"
    for line in _lines(text, source):
        content = line.text.strip(" \t")
        if not content or content.startswith("#"):
            continue
        try:
            if (setting := _SETTING.fullmatch(line.text)) is not None:
                zone = _zone_of(line, setting)
            else:
                items.append(_entry(line, zone))
        except CrontabInvalid as error:
            mistakes += error.mistakes
    mistakes += repeated_identifiers(items)
    return Reading(tuple(items), tuple(sorted(mistakes, key=_place)))


def format_crontab(items: Iterable[CronItem]) -> str:
    """Return the text of a crontab with these entries; `parse_crontab` reads the same entries from it.

    Raises `OptionInvalid` for a task whose identifier cannot be written in a crontab.
    """
    return "".join(f"{_format(item)}\n" for item in items)


def repeated_identifiers(items: Iterable[CronItem]) -> list[CrontabMistake]:
    """Return a mistake for each entry that has the identifier of one before it."""
    mistakes: list[CrontabMistake] = []
    first: dict[str, CronItem] = {}
    for item in items:
        earlier = first.setdefault(item.identifier, item)
        if earlier is not item:
            where = "" if earlier.line is None else f" in line {earlier.line.number}"
            reason = (
                f"there is an entry {item.identifier!r} already{where}: give this one a name of its own, "
                "by ?id=... in a crontab, by identifier=... in code"
            )
            mistakes.append(mistake_of(item, reason))
    return mistakes


def mistake_of(item: CronItem, reason: str) -> CrontabMistake:
    """Return a mistake in an entry, with its place if it was read from a text."""
    if item.line is None:
        return CrontabMistake(text=item.identifier, reason=reason)
    task = words(item.line.text)[5]
    return item.line.mistake(task.start() + 1, reason)


def _lines(text: str, source: str) -> Iterator[Line]:
    # Not splitlines: payloads may hold characters that it takes for the end of a line.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        yield Line(source=source, number=number, text=line.removesuffix("\r"))


def _place(mistake: CrontabMistake) -> tuple[int, int]:
    return mistake.line or 0, mistake.column or 0


def _zone_of(line: Line, setting: re.Match[str]) -> str:
    if setting[1] != "CRON_TZ":
        reason = f"{setting[1]} cannot be set here: only CRON_TZ=... can, the zone of what stands below"
        raise CrontabInvalid([line.mistake(setting.start(1) + 1, reason)])
    try:
        load_zone(setting[2])
    except OptionInvalid as error:
        raise CrontabInvalid([line.mistake(setting.start(2) + 1, error.reason)]) from None
    return setting[2]


def _entry(line: Line, zone: str) -> CronItem:
    """Return the entry in a line. Raises `CrontabInvalid` with all mistakes in the line."""
    parts = words(line.text)
    if len(parts) < 6 or parts[0][0].startswith("@"):
        raise CrontabInvalid([_too_short(line, parts)])
    task = parts[5]
    schedule = parse_schedule([part[0] for part in parts[:5]])
    wrong: list[tuple[int, Unreadable]] = []
    if not isinstance(schedule, Schedule):
        wrong += [(parts[index].start(), error) for index, error in schedule]
    if _is_task(task[0]):
        tail = _read_tail(line.text[task.end() :])
        wrong += [(task.end(), error) for error in tail.wrong]
    else:  # an unreadable task: nothing behind it can be read reliably
        tail = _Tail()
        wrong.append((task.start(), Unreadable(0, _no_task(task[0]))))
    if wrong or not isinstance(schedule, Schedule):
        raise CrontabInvalid([line.mistake(start + error.offset + 1, error.reason) for start, error in wrong])
    return CronItem(
        schedule=schedule,
        task_identifier=task[0],
        payload_json=tail.payload_json,
        spec=JobSpec(**tail.settings.spec),
        line=line,
        **{"zone": zone, **tail.settings.item},
    )


@attrs.define
class _Tail:
    """The rest of a line, behind the task."""

    settings: Settings = attrs.field(factory=Settings)
    payload_json: str = "{}"
    wrong: list[Unreadable] = attrs.field(factory=list)


def _read_tail(text: str) -> _Tail:
    tail = _Tail()
    payload_start = 0
    parts = words(text)
    if parts and parts[0][0].startswith("?"):
        start, payload_start = parts[0].span()
        tail.settings = parse_settings(parts[0][0][1:])
        tail.wrong += [Unreadable(start + 1 + error.offset, error.reason) for error in tail.settings.wrong]
    try:
        tail.payload_json = _read_payload(text[payload_start:])
    except Unreadable as error:
        tail.wrong.append(Unreadable(payload_start + error.offset, error.reason))
    return tail


def _is_task(word: str) -> bool:
    return _TASK.fullmatch(word) is not None and len(word) <= _MAX_TASK_LENGTH


def _no_task(word: str) -> str:
    if "?" in word:
        return f"{word!r} is no task: put a space before the question mark"
    return (
        f"{word!r} is no task, which has a letter, then up to 127 letters, digits, _, :, /, . and -; "
        "before it stand five fields, of which none is for seconds"
    )


def _too_short(line: Line, parts: list[re.Match[str]]) -> CrontabMistake:
    first = parts[0][0]
    if first.startswith("@"):
        hint = f"write {_MACROS[first]}" if first in _MACROS else "write the five fields"
        return line.mistake(parts[0].start() + 1, f"{first} is not understood: {hint}")
    return line.mistake(
        parts[-1].end() + 1,
        f"an entry is `minute hour day month weekday task`, here are only {len(parts)} of the six",
    )


def _read_payload(text: str) -> str:
    """Return the JSON text of the payload in the rest of a line; an empty object if there is no payload."""
    stripped = text.strip(" \t\r")
    if not stripped:
        return "{}"
    offset = text.index(stripped)
    if not stripped.startswith("{"):
        word = stripped.split()[0]
        raise Unreadable(offset, f"after the task come ?options and a payload in braces, not {word!r}")
    try:
        return encode(_read_json5(stripped))
    except ValueError as error:
        place, reason = _place_in_payload(str(error))
        raise Unreadable(offset + place, f"payload: {reason}") from None


def _read_json5(text: str) -> Any:
    import json5  # noqa: PLC0415  # most programs have no crontab, and should not pay for the import

    try:
        return json5.loads(text, allow_duplicate_keys=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


_JSON5_PLACE = re.compile(r"<string>:1 (.*) at column (\d+)", re.DOTALL)


def _place_in_payload(text: str) -> tuple[int, str]:
    match = _JSON5_PLACE.fullmatch(text)
    return (0, text) if match is None else (int(match[2]) - 1, f"{match[1]}: a JSON5 object is needed")


def _format(item: CronItem) -> str:
    check_kind("items", item, CronItem)
    if not _is_task(item.task_identifier):
        raise OptionInvalid("task_identifier", _no_task(item.task_identifier))
    payload = encode(item.payload)
    parts = (
        str(item.schedule),
        item.task_identifier,
        format_settings(item),
        "" if payload == "{}" else payload,
    )
    return " ".join(filter(None, parts))
