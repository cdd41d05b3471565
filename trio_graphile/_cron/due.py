"""Finds the entries that are due and those that were missed: it walks over due times, not over minutes."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice, takewhile

import attrs

from trio_graphile._cron.item import CronItem
from trio_graphile._cron.zones import instant_of, latest_wall_time, wall_time
from trio_graphile._model.options import CronOptions

INSTANT = timedelta(microseconds=1)
"""The smallest step between two instants."""


@attrs.frozen
class Known:
    """What the database knows of an entry."""

    known_since: datetime
    last_execution: datetime | None

    @property
    def done_before(self) -> datetime:
        """The time before which no job is missing. A job for that time itself is added at most once."""
        return self.known_since if self.last_execution is None else self.last_execution


@attrs.frozen
class Firing:
    """The entries that are due at one time, in the order of the crontab."""

    at: datetime
    items: tuple[CronItem, ...]
    backfilled: bool = attrs.field(default=False, kw_only=True)


@attrs.frozen
class Skipped:
    """Times of an entry for which we add no job, because they are too many or too long ago."""

    item: CronItem
    since: datetime
    before: datetime


@attrs.frozen
class Plan:
    """The jobs to add, in this order, and the times for which none is added."""

    firings: tuple[Firing, ...] = ()
    skipped: tuple[Skipped, ...] = ()


def due_from(item: CronItem, since: datetime) -> Iterator[datetime]:
    """Yield the times from an instant on at which an entry is due, in UTC."""
    zone = item.tzinfo
    for wall in item.schedule.after(wall_time(since, zone) - INSTANT):
        at = instant_of(wall, zone)
        if at is not None and at >= since:
            yield at


def due_before(item: CronItem, before: datetime) -> Iterator[datetime]:
    """Yield the times at which an entry was due before an instant, in UTC, the latest first."""
    zone = item.tzinfo
    for wall in item.schedule.before(latest_wall_time(before, zone)):
        at = instant_of(wall, zone)
        if at is not None and at < before:
            yield at


def backfill(
    items: Iterable[CronItem], known: Mapping[str, Known], before: datetime, options: CronOptions
) -> Plan:
    """Return the times before an instant that known entries have missed, if they want a backfill."""
    due: list[tuple[CronItem, list[datetime]]] = []
    skipped: list[Skipped] = []
    for item in items:
        record = known.get(item.identifier)
        if record is None or not item.backfill_period:
            continue
        since = max(before - timedelta(seconds=item.backfill_period), record.done_before)
        times, left_out = _latest(item, since, before, options.missed_limit)
        due.append((item, times))
        skipped += left_out
    return Plan(tuple(_merge(due, backfilled=True)), tuple(skipped))


@attrs.define(eq=False)
class Agenda:
    """The next time at which each entry is due, starting from an instant."""

    _items: Sequence[CronItem]
    _start: datetime
    _queue: list[tuple[datetime, int]] = attrs.field(init=False)
    """A heap of times, each with the index of its entry."""

    def __attrs_post_init__(self) -> None:
        times = (next(due_from(item, self._start)) for item in self._items)
        self._queue = list(zip(times, count(), strict=False))
        heapq.heapify(self._queue)

    @property
    def next_at(self) -> datetime:
        """The earliest time at which an entry is due."""
        return self._queue[0][0]

    def take(self, now: datetime, options: CronOptions) -> Plan:
        """Return the entries that have become due since the last call.

        If the clock was set back, this returns none for the repeated times: it returned them the first time.
        """
        due: dict[int, list[datetime]] = {}
        skipped: list[Skipped] = []
        while self.next_at <= now:
            since, index = self._queue[0]
            item = self._items[index]
            # A worker that slept adds no fewer jobs of an entry than one that was not running at all.
            window = max(options.catch_up_window, item.backfill_period)
            earliest = now - timedelta(seconds=window)
            due[index], left_out = _latest(item, since, now + INSTANT, options.missed_limit, earliest)
            skipped += left_out
            heapq.heapreplace(self._queue, (next(due_from(item, now + INSTANT)), index))
        in_order = [(self._items[index], due[index]) for index in sorted(due)]
        return Plan(tuple(_merge(in_order, backfilled=False)), tuple(skipped))


def next_times(item: CronItem, since: datetime, limit: int) -> list[datetime]:
    """Return the next times at which an entry is due, in its own zone."""
    return [at.astimezone(item.tzinfo) for at in islice(due_from(item, since.astimezone(UTC)), limit)]


def _latest(
    item: CronItem, since: datetime, before: datetime, limit: int, earliest: datetime | None = None
) -> tuple[list[datetime], list[Skipped]]:
    """Return the latest missed times of an entry, within its limits, and the times that exceed the limits."""
    first = since if earliest is None else max(since, earliest)
    walk = takewhile(lambda at: at >= since, due_before(item, before))
    times: list[datetime] = []
    for at in walk:
        if at < first or len(times) == limit:
            return times[::-1], [Skipped(item, since, times[-1] if times else before)]
        times.append(at)
    return times[::-1], []


def _merge(due: Iterable[tuple[CronItem, list[datetime]]], *, backfilled: bool) -> Iterator[Firing]:
    by_time: dict[datetime, list[CronItem]] = {}
    for item, times in due:
        for at in times:
            by_time.setdefault(at, []).append(item)
    for at in sorted(by_time):
        yield Firing(at, tuple(by_time[at]), backfilled=backfilled)
