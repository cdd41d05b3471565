"""Faults of all kinds at once, for as long as one likes: workers, and what is done to them.

What is drawn at random comes from a seed; when it happens is up to the machine.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import attrs
import trio

from tests.faults.bad_load import TRIGGERS, BadLoad
from tests.faults.injector import Injector, open_injector
from tests.faults.load import drain
from tests.scenarios.neighbours import LOCKS
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    DatabaseOptions,
    JobSpec,
    LocalQueueOptions,
    ShutdownIncomplete,
    ShutdownOptions,
    Worker,
    WorkerOptions,
    open_database,
)

CONCURRENCY = 4
PREFETCHED = 10
SHUTDOWN = ShutdownOptions(grace_period=0.5, flush_timeout=4.0)
SLACK = 2.0
"""For a slow machine."""
HASTY = DatabaseOptions(pool_size=3, connect_timeout=1.0, statement_timeout=1.0)
PATIENCE = 60.0
RATE = 0.02
"""Of how many statements something becomes, of 1."""
END_ONE_SESSION = """
    select pg_terminate_backend(pid)
    from pg_stat_activity
    where datname = current_database()
      and application_name like 'trio_graphile %'
    order by random()
    limit 1
"""

# --- workers --------------------------------------------------------------------------------------


@attrs.define(eq=False, repr=False)
class Place:
    """Where one worker after the other runs, each by way of an injector."""

    load: BadLoad
    observer: Database
    injector: Injector
    draw: random.Random
    violations: list[str] = attrs.field(factory=list)
    ends: Counter[str] = attrs.field(factory=Counter)
    worker: Worker | None = None
    is_calm: bool = False
    """Whether the worker that runs, or is about to, is the last one."""
    _over: bool = False

    def __repr__(self) -> str:
        worker = self.worker
        return "no worker" if worker is None else f"{worker.worker_id} {worker.statistics()}"

    async def keep_working(self) -> None:
        """Run workers until `end`; each is ended after a while, and the next takes its place."""
        while not self._over:
            try:
                async with open_database(self.injector.url, HASTY) as database:
                    while not self._over:
                        await self._work(database)
            except* DatabaseError:
                await trio.sleep(0.05)  # it could not be opened, or no worker could start
            except* Exception as group:  # noqa: BLE001  # whatever it is, it is to be said at the end
                self.violations.append(f"it raised {group!r}")

    async def _work(self, database: Database) -> None:
        options = WorkerOptions(
            concurrency=CONCURRENCY,
            poll_interval=0.2,
            local_queue=LocalQueueOptions(size=self.draw.choice([0, PREFETCHED])),
            shutdown=SHUTDOWN,
        )
        self.worker = worker = Worker(database, self.load.tasks, options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_some_time, worker)
            try:
                await worker.run()
            except ShutdownIncomplete as error:
                self.ends["incomplete"] += 1
                self.load.excused.update(error.job_ids)
                await self._unlock(worker)
            finally:
                self.worker = None
            nursery.cancel_scope.cancel()

    async def _end_some_time(self, worker: Worker) -> None:
        await trio.sleep(self.draw.expovariate(1 / 8))
        if not self.is_calm:
            await self.end_worker(worker, self.draw.choice(["stop", "cancel"]))

    async def end_worker(self, worker: Worker, how: str) -> None:
        """End a worker; it is to end within the bound."""
        self.ends[how] += 1
        bound = SHUTDOWN.flush_timeout + (SHUTDOWN.grace_period if how == "stop" else 0.0)
        began = trio.current_time()
        getattr(worker, how)()
        await worker.wait_ended()
        if (took := trio.current_time() - began) > bound + SLACK:
            self.violations.append(f"{how} took {took:.1f} s")

    async def _unlock(self, worker: Worker) -> None:
        await patiently(lambda: Client(self.observer).force_unlock_workers([worker.worker_id]))

    async def end(self) -> None:
        """Stop the last worker."""
        self._over = True
        if self.worker is not None:
            await self.end_worker(self.worker, "stop")


async def patiently(call: Callable[[], Awaitable[object]]) -> None:
    """Try until it succeeds: the neighbours are hard on each other, too."""
    while True:
        with contextlib.suppress(DatabaseError):
            await call()
            return
        await trio.sleep(0.05)


# --- what is done to them -------------------------------------------------------------------------


async def lock_things(observer: Database, draw: random.Random) -> None:
    """Lock rows and tables, one after the other, for some ms each."""
    while True:
        with contextlib.suppress(DatabaseError):
            async with observer.transaction() as connection:
                await connection.execute("set local lock_timeout = '500ms'")
                await connection.execute(draw.choice([*LOCKS.values()]))
                await trio.sleep(draw.uniform(0.0, 0.2))
        await trio.sleep(draw.uniform(0.0, 0.5))


async def end_sessions(observer: Database, draw: random.Random) -> None:
    while True:
        await trio.sleep(draw.uniform(0.5, 3.0))
        await patiently(lambda: observer.execute(END_ONE_SESSION))


async def break_connections(injectors: list[Injector], draw: random.Random) -> None:
    while True:
        await trio.sleep(draw.uniform(2.0, 10.0))
        draw.choice(injectors).reset()


@attrs.define(eq=False)
class Soak:
    """All of it: some places to work at, and everything that can go wrong there."""

    observer: Database
    places: list[Place]
    load: BadLoad
    draw: random.Random

    async def run(self, seconds: float) -> None:
        """Do everything at once for so long; then let all recover, count the slots, and stop."""
        client = Client(self.observer, self.load.tasks)
        async with trio.open_nursery() as nursery:
            for place in self.places:
                nursery.start_soon(place.keep_working)
            nursery.start_soon(self.load.keep_adding, client)
            with trio.move_on_after(seconds):
                await self._disturb()
            for place in self.places:
                place.injector.calm()
                place.is_calm = True
            await self.load.finish(self.observer, patience=PATIENCE)
            await self._count_slots(client)
            for place in self.places:
                nursery.start_soon(place.end)

    async def _disturb(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock_things, self.observer, self.draw)
            nursery.start_soon(end_sessions, self.observer, self.draw)
            nursery.start_soon(break_connections, [place.injector for place in self.places], self.draw)

    async def _count_slots(self, client: Client) -> None:
        """Have each slot of each worker run a job at the same time as all the others."""
        load = self.load
        load.parties = CONCURRENCY * len(self.places)
        enough = load.parties + PREFETCHED * len(self.places)  # some may wait where all slots are taken
        await load.add(client, [("barrier", None, JobSpec())] * enough)
        try:
            await load.wait_until(lambda: load.at_barrier.total() >= load.parties)
        except trio.TooSlowError:
            raise AssertionError(
                f"of {load.parties} slots these are alive: {load.at_barrier}; the places say: {self.places}"
            ) from None
        await drain(self.observer, PATIENCE)


@contextlib.asynccontextmanager
async def open_soak(observer: Database, urls: Sequence[str], seed: int) -> AsyncIterator[Soak]:
    """Have a place to work at for each URL, with an injector of its own, for as long as the body lasts."""
    load = BadLoad()
    await observer.execute(TRIGGERS)
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for number, url in enumerate(urls):
            injector = await stack.enter_async_context(open_injector(url, f"{seed} {number}"))
            injector.rate = RATE
            places.append(Place(load, observer, injector, random.Random(f"{seed} place {number}")))
        yield Soak(observer, places, load, random.Random(seed))
