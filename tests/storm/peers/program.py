"""What the programs of peers share that are written for asyncio: the contract, and the handler.

It is imported where only a peer's own packages are.
"""

from __future__ import annotations

import asyncio  # noqa: TID251  # these peers know nothing else
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import asyncpg  # type: ignore[import-untyped]
import uvloop  # type: ignore[import-not-found]

Part: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

_ADD_MARK = """
    insert into marks (token, what, attempt, worker, pid)
    values ($1::bigint, $2::text, $3::integer, $4::text, $5::integer)
"""


@dataclass(frozen=True)
class Told:
    """What the storm tells a program, as the contract has it."""

    database_url: str
    marks_url: str
    worker: str
    concurrency: int
    grace: float


def told() -> Told:
    """Return what the environment says."""
    return Told(
        database_url=os.environ["STORM_DATABASE_URL"],
        marks_url=os.environ["STORM_MARKS_URL"],
        worker=os.environ["STORM_WORKER"],
        concurrency=int(os.environ["STORM_CONCURRENCY"]),
        grace=float(os.environ["STORM_GRACE"]),
    )


@dataclass(frozen=True)
class Handler:
    """Does what jobs ask for, and tells the referee. A cancellation never cuts a mark in two."""

    pool: Any
    worker: str

    async def run(self, payload: dict[str, Any], attempt: int | None) -> None:
        """Run a job, whose attempt is 1 for the first; None if the project does not count."""
        token, kind, seconds = payload["token"], payload["kind"], payload["seconds"]
        try:
            await self._mark(token, "started", attempt)
            if kind == "cpu":
                time.sleep(seconds)  # noqa: ASYNC251  # this is what it is for
                await asyncio.sleep(0)  # here it can be told to stop, as at each await
            elif kind == "stubborn":
                await _persist(seconds)
            else:
                await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await self._mark(token, "interrupted", attempt)
            raise
        except Exception:
            await self._mark(token, "failed", attempt)
            raise
        await self.finish(token, attempt)

    async def finish(self, token: int, attempt: int | None) -> None:
        """Mark the end of a job. Who hears of a stop in the last statement has nothing left to stop."""
        with suppress(asyncio.CancelledError):  # noqa: ASYNC103  # it ends anyway
            await self._mark(token, "finished", attempt)

    async def _mark(self, token: int, what: str, attempt: int | None) -> None:
        await _whole(self.pool.execute(_ADD_MARK, token, what, attempt, self.worker, os.getpid()))


@asynccontextmanager
async def open_handler() -> AsyncIterator[Handler]:
    """Connect to the referee for the length of the block."""
    pool = await asyncpg.create_pool(told().marks_url, min_size=2, max_size=2, timeout=30)
    try:
        yield Handler(pool, told().worker)
    finally:
        pool.terminate()  # every mark has been awaited


async def _whole(statement: Coroutine[Any, Any, Any]) -> None:
    """Await a statement to its end, and only then be cancelled."""
    task = asyncio.ensure_future(statement)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:  # noqa: ASYNC103  # raised below
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def _persist(seconds: float) -> None:
    """Wait for so many seconds, whatever we are told."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:  # noqa: ASYNC103  # this is what it is for
            continue  # noqa: ASYNC104


def run_program(*, setup: Part, add: Part, worker: Part) -> None:
    """Run the part of the contract that the command line names."""
    parts = {"setup": setup, "add": add, "worker": worker}
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(parts[sys.argv[1]]())


def leave() -> NoReturn:
    """End a worker that has stopped: how long an interpreter takes to tidy up is nobody's fault."""
    sys.stderr.flush()
    os._exit(0)


def say_ready(holder: object = "") -> None:
    """Tell the storm that jobs are taken, and who has locked those that run."""
    print("ready", holder, flush=True)


async def lines() -> AsyncIterator[list[dict[str, Any]]]:
    """Yield the payloads of each line of standard input."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


@contextmanager
def adding(*failures: type[Exception]) -> Iterator[None]:
    """Tell the storm at the end of the block whether its jobs are there, or only may be."""
    try:
        yield
    except failures as error:
        print(error, file=sys.stderr)
        print("failed", flush=True)
    else:
        print("added", flush=True)


class Interruptible:
    """Lets a program end its handlers, for a project that does not do that itself."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._runs: set[asyncio.Task[None]] = set()
        self.is_over = False
        """Whether the grace period is."""

    async def run(self, payload: dict[str, Any], attempt: int | None) -> None:
        """Run a job in a task of its own. Raises `CancelledError` if it was interrupted."""
        run = asyncio.ensure_future(self._handler.run(payload, attempt))
        self._runs.add(run)
        try:
            await run
        finally:
            self._runs.discard(run)

    def interrupt(self) -> None:
        """Cancel all runs."""
        self.is_over = True
        for run in self._runs:
            run.cancel()
