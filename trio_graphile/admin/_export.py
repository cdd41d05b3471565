"""Lines of CSV in which no spreadsheet finds formulas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

CSV_COLUMNS = (
    "id", "task_identifier", "queue_name", "state", "run_at", "attempts", "max_attempts", "priority", "key",
)  # fmt: skip
"""The columns of an exported job."""

# The characters that OWASP names, including the wide forms that East Asian programs treat alike.
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_line(values: Sequence[str | int | datetime | None]) -> str:
    """Return one line of CSV with its line end; all cells are quoted.

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
            # Some programs first remove spaces around cells.
            is_formula = value.startswith(_FORMULAS) or value.lstrip().startswith(_FORMULAS)
            return ("'" if is_formula else "") + value.replace('"', '""')
        case _:
            return str(value)
