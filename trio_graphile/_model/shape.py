"""`Shape`: how the values of one type look in JSON, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import attrs

Mistake: TypeAlias = tuple[str, str]
"""Where, from the value that is looked at, and what."""

RESERVED_KEYS = frozenset({"_cron", "_trace"})
"""What crontabs and tracing put beside a payload's own keys."""


class Unfit(Exception):
    """A value and its type do not fit. Says where and why, and shows no value."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        super().__init__()
        self.mistakes = list(mistakes)

    @classmethod
    def here(cls, reason: str) -> Unfit:
        """Return the one with this reason for the value itself."""
        return cls([("", reason)])

    @property
    def is_about_the_type(self) -> bool:
        """Whether nothing is said but that the value is of another type."""
        [(path, reason), *more] = self.mistakes
        return not path and not more and reason.startswith("expected ")

    def below(self, step: str) -> list[Mistake]:
        """Return the mistakes as seen from the value of which this one is a part."""
        return [(step + path, reason) for path, reason in self.mistakes]


class Unstorable(Exception):
    """Values of a type would not come back from JSON as what they were; says where it is, and what would."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(f"{reason} @ {path}")


@attrs.frozen
class Keys:
    """The keys of the objects of a class."""

    known: frozenset[str]
    required: frozenset[str]
    tags: Mapping[str, frozenset[object]] = attrs.field(factory=dict)
    """Those that always have one of a few values."""


@attrs.frozen(kw_only=True, eq=False)
class Shape:
    """How the values of one type look in JSON.

    `write` makes of a value what JSON has, `read` makes the value again. Both look at every part, and raise
    `Unfit`.
    """

    wanted: Any
    """The type."""
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    classes: tuple[type, ...]
    """Of which its values are."""
    forms: frozenset[type]
    """Which of JSON's kinds its values become, by the class that stands for each when it is decoded."""
    exact: frozenset[type] = frozenset()
    """Classes whose own values, not those of subclasses, are the same in JSON: there is nothing to do."""
    texts: frozenset[object] | None = None
    """What its values become, if these are few."""
    keys: Keys | None = None
    items: Shape | None = None
    """Of an array whose items are alike."""
    is_plain: bool = False
    """Whether its values are what JSON decodes to."""
    is_faithful: bool = True
    """Whether what was written is read as the same by construction: nobody else's code has a say in it."""

    @property
    def foreign_keys(self) -> frozenset[str]:
        """The reserved keys that its values lose: all but its own, none of a plain dict's."""
        if self.keys is not None:
            return RESERVED_KEYS - self.keys.known
        return frozenset() if dict in self.forms else RESERVED_KEYS
