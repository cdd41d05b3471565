"""The status of entries of crontabs, from the database and, where it is given, from the crontab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

import attrs

from trio_graphile._cron.due import INSTANT, Known, due_from
from trio_graphile._cron.item import LONGEST_BACKFILL, CronItem
from trio_graphile._cron.schedule import MINUTE
from trio_graphile._cron.words import describe

MOST_MISSED = 1000
"""How many missed times are counted at most."""


@attrs.frozen(kw_only=True)
class RecurringStatus:
    """An entry that the database knows, or that is in the given crontab, or both."""

    identifier: str
    task_identifier: str | None = None
    """None, as the next three fields, if the entry is not in the given crontab."""
    schedule: str | None = None
    """The five fields."""
    zone: str | None = None
    words: str | None = None
    """When it is due."""
    next: tuple[datetime, ...] = ()
    """When it is due next, in its own zone."""
    missed: int | None = None
    """How many times have passed since the last for which a job was added, up to `MOST_MISSED`. None also if
    the database does not know the entry yet."""
    known_since: datetime | None = None
    """None if the database does not know the entry yet."""
    last_at: datetime | None = None
    """The last time for which a job was added."""


def recurring(
    known: Mapping[str, Known], items: Iterable[CronItem], now: datetime, *, limit: int = 5
) -> tuple[RecurringStatus, ...]:
    """Return each entry once: those of the crontab in its order, then those that only the database knows."""
    given = [_given(item, known.get(item.identifier), now, limit) for item in items]
    others = known.keys() - {status.identifier for status in given}
    return (
        *given,
        *(
            RecurringStatus(
                identifier=identifier,
                known_since=known[identifier].known_since,
                last_at=known[identifier].last_execution,
            )
            for identifier in sorted(others)
        ),
    )


def missed(item: CronItem, known: Known, now: datetime) -> int:
    """Return how many past times have no job, up to `MOST_MISSED`.

    It leaves out the last minute, whose job may be on its way, and everything more than ten years ago.
    """
    before = now - MINUTE
    since = known.known_since if known.last_execution is None else _after(known.last_execution)
    since = max(since, now - timedelta(seconds=LONGEST_BACKFILL))
    passed = takewhile(lambda at: at <= before, _due(item, since))
    return 0 if since > before else sum(1 for _ in islice(passed, MOST_MISSED))


def _given(item: CronItem, known: Known | None, now: datetime, limit: int) -> RecurringStatus:
    return RecurringStatus(
        identifier=item.identifier,
        task_identifier=item.task_identifier,
        schedule=str(item.schedule),
        zone=item.zone,
        words=describe(item),
        next=tuple(at.astimezone(item.tzinfo) for at in islice(_due(item, _after(now)), limit)),
        missed=None if known is None else missed(item, known, now),
        known_since=None if known is None else known.known_since,
        last_at=None if known is None else known.last_execution,
    )


def _due(item: CronItem, since: datetime) -> Iterator[datetime]:
    """Yield due times up to the last that Python has, after which croniter raises `ValueError`."""
    with contextlib.suppress(OverflowError, ValueError):
        yield from due_from(item, since)


def _after(at: datetime) -> datetime:
    return at if at >= datetime.max.replace(tzinfo=UTC) else at + INSTANT
