"""A load some of whose handlers misbehave, and triggers that are slow or refuse."""

from __future__ import annotations

import asyncio  # noqa: TID251  # what asyncio code leaves behind is a part of it
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from tests.faults.load import EXPECTED, KINDS, Ending, Kind, Load, Run
from tests.scenarios.bad_tempers import EXITS, leave_late_strays, leave_strays
from trio_graphile import DatabaseError, JobContext, JobSpec

SLOW_PRIORITY, REFUSED_PRIORITY = 5, 7

TRIGGERS = f"""
    create function public.dawdle() returns trigger language plpgsql as $$
    begin
      if old.priority = {REFUSED_PRIORITY} and old.locked_by is not null and old.attempts = 1 then
        raise exception '{EXPECTED}';
      end if;
      if old.priority = {SLOW_PRIORITY} then
        perform pg_sleep(0.05);
      end if;
      return old;
    end
    $$;
    create trigger dawdle before delete on graphile_worker._private_jobs
      for each row when (old.priority <> 0) execute function public.dawdle()
"""

BAD_KINDS = [
    *KINDS,
    *((name, None, JobSpec()) for name in ("exiting", "exiting_in_thread", "strays", "hasty", "borrowing")),
    ("beginning", None, JobSpec()),
    ("exiting", None, JobSpec(queue_name="first")),
    ("instant", None, JobSpec(priority=SLOW_PRIORITY)),
    ("instant", None, JobSpec(priority=REFUSED_PRIORITY)),
    ("slow", None, JobSpec()),
]


@attrs.define(eq=False)
class BadLoad(Load):
    """A load some of whose handlers misbehave."""

    excused: set[int] = attrs.field(factory=set)
    """Jobs of which a worker has said that it could not write what became of them."""
    kinds: Sequence[Kind] = BAD_KINDS
    parties: int = 0
    at_barrier: Counter[str] = attrs.field(factory=Counter)
    """How many slots of each worker have come to the barrier."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        handlers: dict[str, Callable[[JobContext], Awaitable[None]]] = {
            "exiting": _exit_once,
            "strays": _leave_strays,
            "hasty": _give_up,
            "borrowing": _borrow,
            "beginning": _begin,
            "slow": _dawdle,
            "barrier": self._meet,
        }
        for name, handler in handlers.items():
            self._add_handler(name, handler)

        @self.tasks.task("exiting_in_thread")
        def exiting_in_thread(context: JobContext) -> None:
            trio.from_thread.run_sync(self._exit, context)

    def _exit(self, context: JobContext) -> None:
        with self.running(context.job):
            _raise_once(context)

    def _add_handler(self, name: str, handler: Callable[[JobContext], Awaitable[None]]) -> None:
        @self.tasks.task(name)
        async def handle(context: JobContext) -> None:
            with self.running(context.job):
                await handler(context)

    async def _meet(self, context: JobContext) -> None:
        self.at_barrier[context.worker_id] += 1
        await self.wait_until(lambda: self.at_barrier.total() >= self.parties)

    def check_soaked(self) -> int:
        """Each job was completed, once and after as many failures as it had; return how many were excused."""
        assert not self.violations, self.violations
        assert not self.added - self.runs.keys(), "jobs were lost"
        assert len(self.runs.keys() - self.added) <= self.uncertain, "jobs came from nowhere"
        for id_, runs in self.runs.items():
            if id_ not in self.excused:
                _check_runs(id_, runs)
        return len(self.excused & self.runs.keys())


def _check_runs(id_: int, runs: Sequence[Run]) -> None:
    is_refused = runs[0].job.priority == REFUSED_PRIORITY
    attempts = [run.job.attempts for run in runs]
    expected, returned = 1, 0
    for run in runs:
        assert run.job.attempts == expected, f"job {id_} had attempts {attempts}"
        returned += run.ending is Ending.RETURNED
        expected += run.ending is Ending.RAISED or (is_refused and run.ending is Ending.RETURNED)
    assert runs[-1].ending is Ending.RETURNED, f"job {id_} was not completed"
    assert returned == 1 + is_refused, f"job {id_} was completed {returned} times"


# --- handlers -------------------------------------------------------------------------------------


def _exit_of(context: JobContext) -> BaseException | None:
    """Return what a job raises: at its first attempt something that nobody should."""
    if context.attempt > 1:
        return None
    return [*EXITS.values()][context.job.id % len(EXITS)]()


def _raise_once(context: JobContext) -> None:
    if (error := _exit_of(context)) is not None:
        raise error


async def _exit_once(context: JobContext) -> None:
    await trio.lowlevel.checkpoint()
    _raise_once(context)


async def _leave_strays(context: JobContext) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await context.run_asyncio(leave_strays if context.job.id % 2 else leave_late_strays)


async def _give_up(context: JobContext) -> None:
    """Ask with no patience: sessions are opened and given up."""
    for number in range(4):
        with contextlib.suppress(DatabaseError), trio.move_on_after(0.001 * number):
            await context.database.fetch_value("select pg_terminate_backend(pg_backend_pid())")


async def _borrow(context: JobContext) -> None:
    """Hold a session for a while, in a transaction."""
    with contextlib.suppress(DatabaseError):
        async with context.database.transaction() as connection:
            await connection.execute("select 1")
            await trio.sleep(0.05)


async def _begin(context: JobContext) -> None:
    with contextlib.suppress(DatabaseError):
        await context.database.execute("begin")


async def _dawdle(_context: JobContext) -> None:
    await trio.sleep(0.1)
