"""Looks: while somebody watches, one look every two seconds serves all; otherwise only samples are taken."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import attrs
import trio

from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database
from trio_graphile._database.listening import Listening
from trio_graphile._database.notifications import JOBS_INSERT, announced_jobs
from trio_graphile._database.samples import (
    locked_by,
    look_at_workers,
    take_sample,
)
from trio_graphile._database.summaries.counts import count_states
from trio_graphile._exceptions import DatabaseError, StatementFailed
from trio_graphile._model.bell import Bell
from trio_graphile.admin._live.points import Look, Points

logger = logging.getLogger("trio_graphile.admin")

_READ_ONLY = "25006"
_MOST_OF_A_CLIENT = 6
"""How many pages one client may watch at a time."""
_MOST_OF_ALL = 64
"""How many pages all clients together may."""
_LINGER = 10.0
"""A reader who goes from one page to the next is away for a moment."""
_CANCEL_TIMEOUT = 0.5
"""How long a statement may take to end after a cancellation, in seconds."""


class TooManyViewers(Exception):
    """There are too many viewers, in all or of this client."""


@attrs.define(eq=False, kw_only=True)
class Looks:
    """Reads the queue for all who watch it, and takes a sample each minute, even if nobody watches."""

    _database: Database
    _writes: bool = True
    """Whether samples are written to the database; otherwise they stay in memory for an hour."""
    _interval: float = 2.0
    """The time between looks, in seconds."""
    _sample_interval: float = 60.0
    """The time between samples that are written, in seconds."""
    _linger: float = _LINGER
    points: Points = attrs.field(
        default=attrs.Factory(lambda self: Points(database=self._database), takes_self=True)
    )
    """The points of the last hour."""
    latest: Look | None = attrs.field(init=False, default=None)
    """The latest look; None while nobody watches."""
    looked: int = attrs.field(init=False, default=0)
    """How many looks differed from the one before."""
    changed: int = attrs.field(init=False, default=0)
    """How many times something may have changed, visible or not; at most once a look."""
    news: Bell = attrs.field(init=False, factory=Bell)
    """Rings when either has grown."""
    ended: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Set when it has ended."""
    _is_notified: bool = attrs.field(init=False, default=False)
    _viewers: Counter[str] = attrs.field(init=False, factory=Counter)
    _viewers_changed: Bell = attrs.field(init=False, factory=Bell)
    _failing: set[str] = attrs.field(init=False, factory=set)
    """The parts that failed the last time, which are logged only once."""

    @contextlib.contextmanager
    def watching(self, client: str) -> Iterator[None]:
        """Watch the queue while the body runs. Raises `TooManyViewers`."""
        viewers = self._viewers
        if viewers[client] >= _MOST_OF_A_CLIENT or viewers.total() >= _MOST_OF_ALL:
            raise TooManyViewers
        viewers[client] += 1
        self._viewers_changed.ring()
        try:
            yield
        finally:
            viewers[client] -= 1
            if not viewers[client]:
                del viewers[client]
            self._viewers_changed.ring()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled. Failures are logged once, and tried again."""
        try:
            await self._look_until_cancelled(task_status)
        finally:
            self.ended.set()

    async def _look_until_cancelled(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample_on, name="samples")
            task_status.started()
            while True:
                while not self._viewers:
                    await self._viewers_changed.wait()
                async with trio.open_nursery() as watching:
                    watching.start_soon(self._look_on, name="looks")
                    watching.start_soon(self._listen, name="listener")
                    await self._wait_deserted()
                    watching.cancel_scope.cancel()
                self.latest = None

    async def _wait_deserted(self) -> None:
        """Wait until nobody has watched for a while."""
        while True:
            while self._viewers:
                await self._viewers_changed.wait()
            with trio.move_on_after(self._linger):
                while not self._viewers:
                    await self._viewers_changed.wait()
            if not self._viewers:
                return

    # --- looking --------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while True:
            began = trio.current_time()
            with self._saying_once("looking at the queue"):
                await self._look()
            await trio.sleep_until(max(began, trio.current_time() - self._interval / 2) + self._interval)

    async def _look(self) -> None:
        was_notified, self._is_notified = self._is_notified, False
        look = await self._see()
        differs = look.differs_from(self.latest)
        self.latest = look
        if self.points.is_due:
            await self.points.remember(look)
        self.looked += differs
        self.changed += differs or was_notified
        if differs or was_notified:
            self.news.ring()

    async def _see(self) -> Look:
        workers = await look_at_workers(self._database)
        counts = await count_states(self._database, locked=locked_by(workers))
        return Look(counts=counts, workers=tuple(workers))

    async def _sample_on(self) -> None:
        due_at = trio.current_time()
        while True:
            with self._saying_once("taking a sample"):
                await self._sample()
            due_at = max(due_at, trio.current_time() - self._sample_interval) + self._sample_interval
            await trio.sleep_until(due_at)

    async def _sample(self) -> None:
        if self._writes:
            try:
                await take_sample(self._database)
            except StatementFailed as error:
                if error.sqlstate != _READ_ONLY:
                    raise
                self._writes = False  # on a standby, samples stay in memory
        if not self._writes and self.points.is_due:
            await self.points.remember(await self._see())

    # --- hearing --------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Listen for added jobs, if that is possible; otherwise the looks show them."""
        options = self._database.options
        if not options.prepared_statements and options.direct_url is None:
            return  # poolers forget who listens
        listening = _JobsHeard(
            database=self._database,
            echo_channel=f"trio_graphile:echo:admin:{id(self)}",
            cancel_timeout=_CANCEL_TIMEOUT,
            hear=self._note_jobs,
        )
        with self._saying_once("listening"):
            await listening.run()

    def _note_jobs(self) -> None:
        self._is_notified = True

    @contextlib.contextmanager
    def _saying_once(self, what: str) -> Iterator[None]:
        """Log a failure of the body, unless it failed the last time."""
        try:
            yield
        except DatabaseError as error:
            if what not in self._failing:
                logger.warning("%s failed, to be tried again: %s", what, error)
            self._failing.add(what)
        else:
            self._failing.discard(what)


@attrs.define(eq=False, kw_only=True)
class _JobsHeard(Listening):
    """Notices that jobs were added, or may have been while nobody listened."""

    _hear: Callable[[], None]

    def channels(self) -> Mapping[str, Callable[[str], None]]:
        return {JOBS_INSERT: self._hear_jobs}

    async def restored(self, _connection: Connection) -> None:
        self._hear()

    def _hear_jobs(self, payload: str) -> None:
        if announced_jobs(payload) > 0:
            self._hear()
