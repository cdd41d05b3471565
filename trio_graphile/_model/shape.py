"""`Shape`: how the values of one type become JSON, and are read again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

Mistake: TypeAlias = tuple[str, str]
"""The path from the value that is checked, and the mistake there."""

RESERVED_KEYS = frozenset({"_cron", "_trace"})
"""The keys that crontabs and tracing add to a payload."""


class Unfit(Exception):
    """A value does not fit its type. Says where and why, and never shows a value."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        super().__init__()
        self.mistakes = list(mistakes)

    @classmethod
    def here(cls, reason: str) -> Unfit:
        """Return the mistake with this reason, at the value itself."""
        return cls([("", reason)])

    @property
    def is_about_the_type(self) -> bool:
        """Whether the only mistake is that the value has another type."""
        [(path, reason), *more] = self.mistakes
        return not path and not more and reason.startswith("expected ")

    def below(self, step: str) -> list[Mistake]:
        """Return the same mistakes, with paths from the value that contains this one."""
        return [(step + path, reason) for path, reason in self.mistakes]


class Unstorable(Exception):
    """Values of a type would not come back from JSON unchanged. Says where, and what to use instead."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{reason} @ {path}")


@attrs.frozen
class Keys:
    """The keys of the objects of a class."""

    known: frozenset[str]
    required: frozenset[str]
    tags: Mapping[str, frozenset[object]] = attrs.field(factory=dict)
    """The keys whose value is always one of a few."""


@attrs.frozen(kw_only=True, eq=False)
class Shape:
    """How the values of one type become JSON.

    `write` turns a value into what JSON has, `read` makes the value again. Both check every part, and raise
    `Unfit`.
    """

    wanted: Any
    """The type."""
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    classes: tuple[type, ...]
    """The classes of its values."""
    forms: frozenset[type]
    """The kinds of JSON values that its values become, each as the class that decoding makes of it."""
    exact: frozenset[type] = frozenset()
    """Classes whose values, but not those of subclasses, are the same in JSON and need no conversion."""
    texts: frozenset[object] | None = None
    """The JSON values that its values become, if these are few."""
    keys: Keys | None = None
    items: Shape | None = None
    """The shape of the items, for an array of items of one type."""
    is_plain: bool = False
    """Whether its values are exactly what JSON decodes to."""
    is_faithful: bool = True
    """Whether reading always gives the value that was written, since no code of the user's is involved."""

    @property
    def foreign_keys(self) -> frozenset[str]:
        """The reserved keys that its values lose: all but the type's own keys; a plain dict loses none."""
        if self.keys is not None:
            return RESERVED_KEYS - self.keys.known
        return frozenset() if dict in self.forms else RESERVED_KEYS
