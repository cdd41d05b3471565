"""The five fields of an entry: reads text into sets of numbers, and writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import attrs


class Unreadable(Exception):
    """A piece of a crontab cannot be read: says where, counted from 0, and what would be right."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(offset, reason)
        self.offset = offset
        self.reason = reason


@attrs.frozen(kw_only=True)
class Field:
    """The values that one of the five fields may have."""

    name: str
    every: range
    """All numbers, which `*` stands for."""
    highest: int = attrs.field(default=attrs.Factory(lambda self: self.every[-1], takes_self=True))
    """The highest number that can be written; for weekdays 7, since Sunday is 0 and also 7."""
    names: tuple[str, ...] = ()
    """Other ways to write the numbers of `every`, in their order."""

    @property
    def choices(self) -> str:
        """Say in words what can be written for one value."""
        numbers = f"{self.every[0]} to {self.highest}"
        return f"{numbers} or {self.names[0]} to {self.names[-1]}" if self.names else numbers


FIELDS = (
    Field(name="minute", every=range(60)),
    Field(name="hour", every=range(24)),
    Field(name="day", every=range(1, 32)),
    Field(
        name="month",
        every=range(1, 13),
        names=("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ),
    Field(name="weekday", every=range(7), highest=7, names=("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)

_WORD = re.compile(r"[^ \t]+")
_VALUE = r"[0-9]+|[A-Za-z]+"
_PART = re.compile(rf"(\*|{_VALUE})(?:-({_VALUE}))?(?:/([0-9]+))?")


def words(text: str) -> list[re.Match[str]]:
    """Return the words of a line, which spaces and tabs separate, and where each begins."""
    return list(_WORD.finditer(text))


def parse_field(field: Field, text: str) -> frozenset[int]:
    """Return the numbers that a field's text stands for. Raises `Unreadable`."""
    values: set[int] = set()
    offset = 0
    for part in text.split(","):
        try:
            # Sunday is 0 from here on.
            values.update(value % 7 if field.highest == 7 else value for value in _expand(field, part))
        except ValueError as error:
            raise Unreadable(offset, f"{field.name}: {error}") from None
        offset += len(part) + 1
    return frozenset(values)


def _expand(field: Field, part: str) -> range:
    match = _PART.fullmatch(part)
    if match is None or (match[1] == "*" and match[2] is not None):
        raise ValueError(
            f"{part!r} is neither a value ({field.choices}), nor a range (a-b), nor *; "
            "the last two may have a step (/n)"
        )
    first, last, step = match.groups()
    size = 1 if step is None else _number(step)
    if size < 1:
        raise ValueError(f"{part!r} never comes: a step is at least 1")
    if first == "*":
        return field.every[::size]
    begin = _value(field, first)
    if last is None:
        if step is not None:
            raise ValueError(f"{part!r} has a step without a range: write {first}-{field.every[-1]}/{step}")
        return range(begin, begin + 1)
    end = field.highest if field.highest == 7 and last.lower() == "sun" else _value(field, last)
    if begin == end:
        raise ValueError(f"{part!r} is no range: write {first}")
    if begin > end:
        raise ValueError(f"{part!r} runs backwards: write {last}-{first}, or two ranges to pass the end")
    return range(begin, end + 1, size)


def _value(field: Field, text: str) -> int:
    value = field.names.index(text.lower()) + field.every[0] if text.lower() in field.names else _number(text)
    if not field.every[0] <= value <= field.highest:
        raise ValueError(f"{text!r} is not one of {field.choices}")
    return value


def _number(text: str) -> int:
    """Return the number in a text; for a word, one that no field has. Reads nine digits at most."""
    return int(text.lstrip("0")[:9] or 0) if text.isdigit() else -1


def format_field(field: Field, values: frozenset[int]) -> str:
    """Return the shortest text that `parse_field` reads as these numbers."""
    ordered = tuple(sorted(values))
    if len(ordered) > 2 or len(ordered) == len(field.every):
        step = ordered[1] - ordered[0]
        if ordered == tuple(field.every[::step]):
            return "*" if step == 1 else f"*/{step}"
    return ",".join(_ranges(ordered))


def _ranges(ordered: tuple[int, ...]) -> Iterator[str]:
    begin = 0
    for end in range(len(ordered)):
        if end + 1 < len(ordered) and ordered[end + 1] == ordered[end] + 1:
            continue
        if end - begin >= 2:
            yield f"{ordered[begin]}-{ordered[end]}"
        else:
            yield from map(str, ordered[begin : end + 1])
        begin = end + 1
