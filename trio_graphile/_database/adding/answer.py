"""The answers of statements that add jobs. They become jobs later, when there is time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.counted import counted
from trio_graphile._model.jobs import Job

Answer: TypeAlias = Callable[[], list[Job]]
"""Makes the jobs of the rows that came back, in the order in which they were added."""


def other_rows(given: int, returned: int) -> StatementFailed:
    """Return the error for rows that are not the jobs that were given."""
    return StatementFailed(
        f"asked for {counted(given, 'job')}, but the {returned} that came back are others: "
        "does a trigger on _private_jobs change or suppress rows?"
    )
