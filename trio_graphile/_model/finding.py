"""The result of a check of the server or the queue."""

from __future__ import annotations

import enum

import attrs


class Level(enum.StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing."""
    WARNING = "warning"
    """It works, but not as well as it could, or not for long."""
    PROBLEM = "problem"
    """It does not work."""


@attrs.frozen
class Finding:
    """The result of one check."""

    check: str
    level: Level
    text: str
    advice: str | None = None
    """What to do about it."""
