"""`trio-graphile crontab check`: what a crontab means, and all its mistakes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from trio_graphile._cron.crontab import Reading, read_crontab
from trio_graphile._cron.due import next_times
from trio_graphile._cron.item import CronItem
from trio_graphile._cron.mistakes import CrontabInvalid, CrontabMistake
from trio_graphile._cron.settings import format_settings
from trio_graphile._tasks.cron import fit_crontab
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._flags import Switch
from trio_graphile.cli._tasks import load_tasks

_NEXT_RUNS = 5  # shown of each entry


def check(
    file: Path,
    /,
    *,
    tasks: str | None = None,
    as_json: Annotated[Switch, Parameter(name="--json")] = False,
) -> None:
    """Show the entries of a crontab with their next five runs, and all its mistakes.

    Args:
        file: The crontab.
        tasks: Where the TaskRegistry is, as MODULE:NAME; then tasks and payloads are checked, too.
        as_json: Print JSON.
    """
    reading = load_crontab(file)
    misfits = () if tasks is None else _misfits(reading.items, tasks)
    mistakes = list(dict.fromkeys([*reading.mistakes, *misfits]))  # both lists have repeated identifiers
    now = datetime.now(UTC)
    if as_json:
        entries = [_as_plain(item, now) for item in reading.items]
        print(json.dumps({"entries": entries, "mistakes": list(map(attrs.asdict, mistakes))}, indent=2))
    else:
        for item in reading.items:
            print("\n".join(_describe(item, now)))
    if mistakes:
        raise CrontabInvalid(mistakes)


def load_items(file: Path) -> Sequence[CronItem]:
    """Return the entries of a crontab. Raises `UsageError`, and `CrontabInvalid` for any mistake."""
    reading = load_crontab(file)
    if reading.mistakes:
        raise CrontabInvalid(reading.mistakes)
    return reading.items


def load_crontab(file: Path) -> Reading:
    """Read the valid entries of a file, and its mistakes. Raises `UsageError` if it cannot be read at all."""
    try:
        return read_crontab(file.read_text(encoding="utf-8"), source=str(file))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file} is not UTF-8, which crontabs are: {error.reason}, byte {error.start}"
        ) from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _misfits(items: Sequence[CronItem], tasks: str) -> Sequence[CrontabMistake]:
    try:
        fit_crontab(items, load_tasks(tasks))
    except CrontabInvalid as error:
        return error.mistakes
    return ()


def _describe(item: CronItem, now: datetime) -> list[str]:
    head = [f"{item.identifier}:", str(item.schedule), item.task_identifier, format_settings(item)]
    times = [f"    {at:%a %Y-%m-%d %H:%M %z} {item.zone}" for at in next_times(item, now, _NEXT_RUNS)]
    return [" ".join(filter(None, head)), *times]


def _as_plain(item: CronItem, now: datetime) -> dict[str, Any]:
    spec = {name: value for name, value in attrs.asdict(item.spec).items() if value is not None}
    return {
        "identifier": item.identifier,
        "line": None if item.line is None else item.line.number,
        "task": item.task_identifier,
        "schedule": str(item.schedule),
        "zone": item.zone,
        "backfill_period": item.backfill_period,
        "payload": item.payload,
        "spec": spec,
        "next": [at.isoformat() for at in next_times(item, now, _NEXT_RUNS)],
    }
