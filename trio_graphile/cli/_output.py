"""How commands speak: tables on a terminal, tab-separated values through a pipe, JSON if it is asked for."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from trio_graphile._model.inspection import ListedJob
from trio_graphile._model.jobs import Job
from trio_graphile.cli._streams import harmless

_NOTHING = "-"


@attrs.frozen
class Verbatim:
    """JSON text that is to be printed as it is."""

    text: str


def print_json(value: object) -> None:
    """Print a value as JSON; times are RFC 3339, payloads exactly what is stored."""
    verbatim: dict[str, str] = {}

    def encode(part: object) -> object:
        match part:
            case Verbatim(text):
                token = secrets.token_hex(16)
                verbatim[f'"{token}"'] = text
                return token
            case datetime():
                return format_time(part)
            case tuple() | set() | frozenset():
                return list(part)
            case _:
                return attrs.asdict(part)  # type: ignore[arg-type]  # a value of ours, or a TypeError

    printed = json.dumps(value, indent=2, ensure_ascii=False, default=encode)
    for token, text in verbatim.items():
        printed = printed.replace(token, text)
    print(harmless(printed))


def format_time(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows below their columns' names: as a table on a terminal, tab-separated otherwise."""
    texts = [[harmless(as_text(value)) for value in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *texts]:
            print("\t".join(" ".join(text.split()) for text in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, header_style="bold", pad_edge=False)
    for row in texts:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))  # no markup in users' words
    Console().print(table)


_STYLES = {"failed": "red", "locked": "yellow", "ready": "green", "scheduled": "cyan", _NOTHING: "dim"}


def as_text(value: object) -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return _NOTHING
        case bool():
            return "yes" if value else "no"
        case datetime():
            return format_time(value)
        case list() | tuple() | dict():
            return ", ".join(map(str, value)) or _NOTHING
        case _:
            return str(value)


@attrs.frozen
class Voice:
    """How a program that runs for long speaks: a line at a time, as text or as JSON."""

    as_json: bool = False

    @property
    def on_terminal(self) -> bool:
        """Whether people watch, and a table may stay before them."""
        return sys.stdout.isatty() and not self.as_json

    def say(self, event: str, text: str, **fields: object) -> None:
        """Say that something has happened; whoever reads it through a pipe gets it at once."""
        if self.as_json:
            line = {"at": datetime.now(UTC), "event": event, **fields, "text": text}
            text = json.dumps(line, ensure_ascii=False, default=_plain)
        with contextlib.suppress(OSError):  # a worker goes on if nobody listens any more
            sys.stdout.write(f"{text}\n")  # at once, since other processes may write there, too
            sys.stdout.flush()


def _plain(part: object) -> object:
    return format_time(part) if isinstance(part, datetime) else str(part)


def note(text: str) -> None:
    """Say something beside the result, on standard error."""
    print(f"trio-graphile: {harmless(text, sys.stderr)}", file=sys.stderr)


def listed_as_json(listed: ListedJob) -> dict[str, Any]:
    """Return a listed job with the keys that scripts for Graphile Worker RS know, and its state."""
    job = _common(listed.job)
    locked = {"locked_at": listed.job.locked_at, "locked_by": listed.job.locked_by}
    rest = {
        "revision": listed.job.revision,
        "flags": _flags(listed.job),
        "is_available": listed.is_available,
        "state": listed.state.value,
    }
    return {
        "id": listed.job.id,
        "task_identifier": listed.job.task_identifier,
        "queue_name": listed.job.queue_name,
        **job,
        **locked,
        **rest,
    }


def job_as_json(job: Job, origin: ListedJob | None) -> dict[str, Any]:
    """Return a job that was changed, with the keys that scripts for Graphile Worker RS know.

    `origin` is what was seen of it in the same transaction: only there stand the numbers of task and queue.
    """
    return {
        "id": job.id,
        "task_id": None if origin is None else origin.task_id,
        "task_identifier": job.task_identifier,
        "job_queue_id": None if origin is None else origin.job_queue_id,
        "queue_name": job.queue_name,
        **_common(job),
        "revision": job.revision,
        "locked_at": job.locked_at,
        "locked_by": job.locked_by,
        "flags": _flags(job),
    }


def _common(job: Job) -> Mapping[str, Any]:
    return {
        "payload": Verbatim(job.payload_json),
        "priority": job.priority,
        "run_at": job.run_at,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "last_error": job.last_error,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "key": job.key,
    }


def _flags(job: Job) -> dict[str, bool] | None:
    return dict.fromkeys(job.flags, True) or None  # as they are stored
