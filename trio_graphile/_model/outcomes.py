"""Outcomes: what a run of a job came to. A closed set; the worker records each exactly once."""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from trio_graphile._exceptions import leaves
from trio_graphile._model.jobs import Job


@attrs.frozen
class Completed:
    """The handler returned; the row is deleted."""

    job: Job


@attrs.frozen
class Failed:
    """The handler raised, or could not be called; the job is tried again after its back-off."""

    job: Job
    error: str
    """What stands in `last_error`; never empty."""


@attrs.frozen
class Returned:
    """The job did not run to its end, for a reason of ours: it goes back, its attempt with it."""

    job: Job


@attrs.frozen
class Removed:
    """The job was replaced or removed through its key and its handler interrupted; the row is deleted."""

    job: Job


@attrs.frozen
class Lost:
    """The job was not ours any more when its run ended: there is nothing left to write."""

    job: Job


Outcome: TypeAlias = Completed | Failed | Returned | Removed | Lost


class StopCause(enum.Enum):
    """Why a worker ended."""

    STOPPED = "stopped"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    """`run_once` found nothing more to do."""
    SUPERSEDED = "superseded"
    """Somebody installed a revision of the schema that this version cannot work with."""


@attrs.frozen(kw_only=True)
class ShutdownReport:
    """What a worker did between its start and its end."""

    worker_id: str
    cause: StopCause = StopCause.STOPPED
    completed: int = 0
    failed: int = 0
    """Runs that failed; the job waits for its next attempt, or has none left."""
    returned: int = 0
    """Jobs given back unfinished, with their attempt."""
    removed: int = 0
    """Runs interrupted because their job was replaced or removed through its key."""
    lost: int = 0
    """Runs whose outcome was not ours to record any more: the lock had been taken from us."""
    seconds: float = 0.0
    """From the stop, or the cancellation, to the end."""


_LONGEST_ERROR = 10_000


def describe_error(error: BaseException) -> str:
    """Return what `last_error` says of an exception: its type and text, of each one in a group.

    Never empty, never longer than PostgreSQL and people can bear, and nothing that PostgreSQL cannot store.
    """
    text = "; ".join(_describe_leaf(leaf) for leaf in leaves(error))
    text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def _describe_leaf(error: BaseException) -> str:
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # a handler's own exception class may fail at this, too
        return f"{name} (whose text could not be made)"
    return f"{name}: {text}" if text else name
