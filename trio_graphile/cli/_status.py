"""Shows how workers are doing: in a table on a terminal, otherwise in a line from time to time."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from trio_graphile._exceptions import GraphileError
from trio_graphile._model.counted import counted
from trio_graphile._model.statistics import Backlog, WorkerStatistics
from trio_graphile.cli._output import LinePrinter

if TYPE_CHECKING:  # imported only when there is a terminal
    from rich.table import Table

_REDRAW_INTERVAL = 0.25
_WINDOW = 5.0
"""The seconds over which a rate is measured."""
_BACKLOG_INTERVAL = 2.0
_BACKLOG_SHARE = 20
"""How many times longer the pause is than the count of the backlog before it, which reads the whole table."""


@attrs.frozen(kw_only=True)
class Status:
    """The status of one worker."""

    name: str
    busy: int = 0
    slots: int = 0
    held: int = 0
    completed: int = 0
    failed: int = 0
    rate: float = 0.0
    """How many jobs end in a second."""


def status_of(name: str, statistics: WorkerStatistics) -> Status:
    """Return the status that statistics show."""
    return Status(
        name=name,
        busy=statistics.busy,
        slots=statistics.slots,
        held=statistics.held,
        completed=statistics.completed,
        failed=statistics.failed,
    )


@attrs.define
class RateMeter:
    """Measures how fast a number grows, over the last few seconds."""

    _samples: deque[tuple[float, int]] = attrs.field(factory=deque)

    def rate(self, now: float, count: int) -> float:
        """Add a sample and return the rate. If the number shrinks, it belongs to a new worker."""
        if self._samples and count < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, count))
        while len(self._samples) > 2 and self._samples[0][0] < now - _WINDOW:
            self._samples.popleft()
        began, before = self._samples[0]
        return (count - before) / (now - began) if now > began else 0.0


def total_of(statuses: Sequence[Status]) -> Status:
    """Return the sum of all workers."""
    return Status(
        name="all",
        **{
            field.name: sum(getattr(status, field.name) for status in statuses)
            for field in attrs.fields(Status)
            if field.name != "name"
        },
    )


def describe(total: Status, backlog: Backlog | None) -> str:
    """Return one line about the status."""
    behind = "" if backlog is None else f", {backlog.ready} ready, {backlog.scheduled} scheduled"
    slots = f"{total.busy} of {counted(total.slots, 'slot')} busy, {total.held} claimed ahead"
    return f"{total.rate:.1f} jobs/s, {slots}{behind}, {total.completed} completed, {total.failed} failed"


def table_of(statuses: Sequence[Status]) -> Table:
    """Return the table for the terminal."""
    from rich.table import Table

    table = Table(pad_edge=False, header_style="bold")
    for column in ("worker", "jobs/s", "busy", "ahead", "completed", "failed"):
        table.add_column(column, justify="left" if column == "worker" else "right")
    rows = statuses if len(statuses) <= 1 else [*statuses, total_of(statuses)]
    for status in rows:
        failed = f"[red]{status.failed}[/red]" if status.failed else "0"
        busy = f"{status.busy}/{status.slots}"
        counts = (str(status.held), str(status.completed), failed)
        table.add_row(status.name, f"{status.rate:.1f}", busy, *counts)
    return table


def describe_backlog(backlog: Backlog | None) -> str:
    """Return the line below the table."""
    if backlog is None:
        return "counting the backlog"
    oldest = "" if not backlog.oldest_ready else f", the oldest for {backlog.oldest_ready:.0f} s"
    return (
        f"{backlog.ready} ready{oldest}; {backlog.scheduled} scheduled; {backlog.locked} locked; "
        f"{backlog.failed} without an attempt left"
    )


@attrs.define(eq=False, kw_only=True)
class Monitor:
    """Shows how workers are doing until it is cancelled."""

    look: Callable[[], Sequence[Status]]
    count_backlog: Callable[[], Awaitable[Backlog]]
    printer: LinePrinter
    interval: float
    """How often to print a line if there is no terminal; 0 means never."""
    _meters: dict[str, RateMeter] = attrs.field(init=False, factory=dict)
    _backlog: Backlog | None = attrs.field(init=False, default=None)

    async def run(self) -> None:
        """Show the status in the form that suits the output."""
        if self.printer.on_terminal:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_backlog)
                nursery.start_soon(self._draw)
        elif self.interval:
            await self._print()

    async def _watch_backlog(self) -> None:
        while True:
            pause = await self._count()
            await trio.sleep(max(_BACKLOG_INTERVAL, pause))

    async def _count(self) -> float:
        """Count the backlog, if the database allows it; return how long to wait before the next count."""
        began = trio.current_time()
        try:
            self._backlog = await self.count_backlog()
        except GraphileError:
            self._backlog = None  # the workers report what is wrong
        return (trio.current_time() - began) * _BACKLOG_SHARE

    async def _print(self) -> None:
        count_at = 0.0
        while True:
            await trio.sleep(self.interval)
            if trio.current_time() >= count_at:
                count_at = trio.current_time() + await self._count()
            total = total_of(self._measured())
            backlog = None if self._backlog is None else attrs.asdict(self._backlog)
            self.printer.print_line(
                "status", describe(total, self._backlog), **attrs.asdict(total), backlog=backlog
            )

    async def _draw(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text

        console = Console(file=sys.stdout)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                await trio.sleep(_REDRAW_INTERVAL)  # a run that is over sooner leaves nothing on the terminal
                table = table_of(self._measured())
                live.update(Group(table, Text(describe_backlog(self._backlog))), refresh=True)

    def _measured(self) -> list[Status]:
        now = trio.current_time()
        return [
            attrs.evolve(
                status,
                rate=self._meters.setdefault(status.name, RateMeter()).rate(
                    now, status.completed + status.failed
                ),
            )
            for status in self.look()
        ]
