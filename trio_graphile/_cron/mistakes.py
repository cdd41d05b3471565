"""The mistakes in a crontab, and the exception that has them all."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._exceptions import GraphileError


@attrs.frozen(kw_only=True)
class CrontabMistake:
    """One mistake in a crontab. Its text has the place, the reason, and the line."""

    source: str | None = None
    """The name of the crontab; None if the entry was not read from a text."""
    line: int | None = None
    """The number of the line, from 1."""
    column: int | None = None
    """The position of the mistake in the line, from 1."""
    text: str
    """The whole line; for an entry that was not read from a text, its name."""
    reason: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        if self.line is None or self.column is None:
            return f"entry {self.text!r}: {self.reason}"
        # Tabs stay, so that the mark stands below what it marks.
        before = "".join("\t" if character == "\t" else " " for character in self.text[: self.column - 1])
        return f"{self.source}:{self.line}:{self.column}: {self.reason}\n    {self.text}\n    {before}^"


class CrontabInvalid(GraphileError):
    """A crontab has mistakes: `mistakes` has all of them, by line. None of its entries is used."""

    def __init__(self, mistakes: Sequence[CrontabMistake]) -> None:
        super().__init__(tuple(mistakes))
        self.mistakes: tuple[CrontabMistake, ...] = tuple(mistakes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))
