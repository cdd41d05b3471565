"""Lines of CSV that no program which calculates takes for formulas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

CSV_COLUMNS = (
    "id", "task_identifier", "queue_name", "state", "run_at", "attempts", "max_attempts", "priority", "key",
)  # fmt: skip
"""What is exported of a job."""

# What OWASP names, the wide forms that East Asian programs take for the same among it.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_line(values: Sequence[str | int | datetime | None]) -> str:
    """Return one line of CSV, its end included: all cells are quoted.

    A text that would be a formula, perhaps after spaces, gets a `'` before it. Numbers stay as they are.
    """
    return ",".join(f'"{_cell(value)}"' for value in values) + "\r\n"


def _cell(value: str | int | datetime | None) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case str():
            # Some programs drop spaces around cells before they look.
            is_formula = value.startswith(_FORMULAS) or value.lstrip().startswith(_FORMULAS)
            return ("'" if is_formula else "") + value.replace('"', '""')
        case _:
            return str(value)
