"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 job` or `2 jobs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
