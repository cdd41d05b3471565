"""Workers of which none is to lose a job while it lives and runs it, whatever is done to them.

Some reach the server by its UNIX socket, some by TCP, one through a proxy. Each fault lasts for a while, and
is undone. What is drawn at random comes from a seed; when it happens is up to the machine. Where the loopback
interface is one of our own (`unshare --net`, and `OWN_LOOPBACK=1`), it is taken down, too: so whoever uses
TCP is cut off without a word. With a standby, all reach whichever server takes writes by TCP, but for the one
behind the proxy, which reaches the first server only; and the clock of all of them is set forward and back.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import cycle, islice, pairwise
from pathlib import Path

import attrs
import trio

from tests.environments.clocks import Clock
from tests.environments.replicas import Pair, switch_over
from tests.faults.fleet import Fleet, Member, Run
from tests.faults.network import Proxy, open_proxy
from tests.support.processes import frozen
from trio_graphile import Client, Database, DatabaseError, JobSpec, TaskRegistry, open_database
from trio_graphile.embedded import PostgresServer, embedded_postgres

PROGRAM = Path(__file__).with_name("present.py")
OWN_LOOPBACK = "OWN_LOOPBACK"
LONGEST_FAULT, LONGEST_REST = 45.0, 12.0
LONGEST_JOB = 60.0
WAITING = 6
"""How many jobs are to wait, at least."""
DIRECT = 4
"""How many workers are not behind the proxy."""
CLOCK_STEPS = ("+1h", "-1h", "+40s", "-40s", "+0")
ROUSED_WITHIN = 1.5
"""How long whoever was suspended may take to notice it, on a slow machine, in seconds."""
END_ALL_SESSIONS = """
    select pg_terminate_backend(activity.pid)
    from pg_stat_activity as activity
    where activity.application_name like 'trio_graphile%'
      and activity.pid <> pg_backend_pid()
"""
END_SOME_SESSIONS = (
    f"{END_ALL_SESSIONS} and activity.application_name like '%presence' order by random() limit 2"
)


@attrs.frozen
class Fault:
    """One that happened, with times of the machine's monotonic clock."""

    name: str
    began_at: float
    ended_at: float
    victim: Member | None = None


@attrs.define(eq=False)
class Trial:
    """The workers, and what was done to them."""

    servers: PostgresServer | Pair
    database: Database
    proxy: Proxy
    proxied: PostgresServer
    """The server behind the proxy."""
    fleet: Fleet
    nursery: trio.Nursery
    draw: random.Random
    clock: Clock | None = None
    """That of the servers and all workers, if it is to be set."""
    faults: list[Fault] = attrs.field(factory=list)
    behind_proxy: set[str] = attrs.field(factory=set)
    """The ids of workers that go through the proxy."""

    @property
    def server(self) -> PostgresServer:
        """The server that takes writes, when all is well."""
        return self.servers.primary if isinstance(self.servers, Pair) else self.servers

    @property
    def direct_urls(self) -> Sequence[str]:
        """The ways to the server but for the one through the proxy."""
        if isinstance(self.servers, Pair):
            return [self.servers.url]
        return [self.servers.url, self.servers.tcp_url_for()]

    async def go_on(self, seconds: float) -> None:
        """Let one fault follow the other for so long."""
        direct = list(islice(cycle(self.direct_urls), DIRECT))
        for url in (*direct, self.proxy.url):
            await self.start(url)
        self.nursery.start_soon(self._add_jobs)
        ends_at = trio.current_time() + seconds
        while (left := ends_at - trio.current_time()) > 0:
            await trio.sleep(min(self.draw.uniform(0, LONGEST_REST), left / 2))
            await self._break_something(min(self.draw.uniform(0, LONGEST_FAULT), left / 2))

    async def start(self, url: str) -> Member:
        """Start a worker that goes this way."""
        self.fleet.url = url
        member = await self.fleet.start(self.nursery)
        if url == self.proxy.url:
            self.behind_proxy.add(member.worker_id)
        return member

    async def _add_jobs(self) -> None:
        client = Client(self.database, TaskRegistry())
        while True:
            try:
                waiting = await self.database.fetch_value(
                    "select count(*) from graphile_worker._private_jobs where locked_at is null"
                )
                durations = [self.draw.uniform(0, LONGEST_JOB) for _ in range(WAITING - waiting)]
                await client.add_raw_jobs([("lasting", duration, JobSpec()) for duration in durations])
            except DatabaseError:
                pass  # it is down, or we have lost our session
            await trio.sleep(1.0)

    async def _break_something(self, seconds: float) -> None:
        faults = [self.suspend, self.end_session, self.end_all_sessions, self.kill]
        faults += [self.crash, self.stop_server, self.freeze_server, self.swallow, self.reset, self.refuse]
        if os.environ.get(OWN_LOOPBACK):
            faults += [self.cut_off] * 3
        if isinstance(self.servers, Pair):
            faults += [self.fail_over] * 3
        if self.clock is not None:
            faults += [self.set_clock] * 3
        fault: Callable[[], AbstractAsyncContextManager[Member | None]] = self.draw.choice(faults)
        began_at = time.monotonic()
        async with fault() as victim:
            await trio.sleep(seconds)
        self.faults.append(Fault(fault.__name__, began_at, time.monotonic(), victim))

    # --- faults of workers ------------------------------------------------------------------------

    def _alive(self) -> list[Member]:
        return [member for member in self.fleet.members if member.lost_at is None]

    @asynccontextmanager
    async def suspend(self) -> AsyncIterator[Member]:
        member = self.draw.choice(self._alive())
        member.process.send_signal(signal.SIGSTOP)
        yield member
        member.process.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def kill(self) -> AsyncIterator[Member]:
        member = self.draw.choice(self._alive())
        self.fleet.kill(member)
        yield member
        direct = self.draw.choice(self.direct_urls)
        by_proxy = member.worker_id in self.behind_proxy and self.server is self.proxied
        await self.start(self.proxy.url if by_proxy else direct)  # on a standby, none would start

    async def _end_sessions(self, which: str) -> None:
        while True:
            try:
                await self.database.fetch(which)
            except DatabaseError:  # after a fault of the server
                await trio.sleep(0.1)
            else:
                return

    # --- faults of sessions -----------------------------------------------------------------------

    @asynccontextmanager
    async def end_session(self) -> AsyncIterator[None]:
        await self._end_sessions(END_SOME_SESSIONS)
        yield

    @asynccontextmanager
    async def end_all_sessions(self) -> AsyncIterator[None]:
        await self._end_sessions(END_ALL_SESSIONS)
        yield

    # --- faults of the network --------------------------------------------------------------------

    @asynccontextmanager
    async def swallow(self) -> AsyncIterator[None]:
        self.proxy.swallow()
        await trio.sleep(self.draw.uniform(0, 3))
        await self._end_sessions(END_ALL_SESSIONS)  # of which the one behind the proxy does not hear
        yield
        await self.proxy.heal()

    @asynccontextmanager
    async def reset(self) -> AsyncIterator[None]:
        self.proxy.reset()
        yield

    @asynccontextmanager
    async def refuse(self) -> AsyncIterator[None]:
        self.proxy.refuse()
        self.proxy.reset()
        yield
        await self.proxy.heal()

    @asynccontextmanager
    async def cut_off(self) -> AsyncIterator[None]:
        await trio.run_process(["ip", "link", "set", "lo", "down"])
        yield
        await trio.run_process(["ip", "link", "set", "lo", "up"])

    # --- faults of the server ---------------------------------------------------------------------

    @asynccontextmanager
    async def crash(self) -> AsyncIterator[None]:
        await self.server.kill()
        yield
        await self.server.start()

    @asynccontextmanager
    async def stop_server(self) -> AsyncIterator[None]:
        await self.server.stop()
        yield
        await self.server.start()

    @asynccontextmanager
    async def freeze_server(self) -> AsyncIterator[None]:
        with frozen(self.server):
            yield

    @asynccontextmanager
    async def fail_over(self) -> AsyncIterator[None]:
        assert isinstance(self.servers, Pair)
        await self.servers.wait_replicating(synchronous=False)
        self.servers = await switch_over(self.servers)
        yield

    @asynccontextmanager
    async def set_clock(self) -> AsyncIterator[None]:
        assert self.clock is not None
        self.clock.set(self.draw.choice(CLOCK_STEPS))
        yield

    # --- what came of it --------------------------------------------------------------------------

    def takeovers(self) -> list[str]:
        """Say which jobs were begun elsewhere while they ran in a worker that lived and was not suspended."""
        return [
            f"job {earlier.job_id}, after {self._last_fault(later.started_at)}"
            for earlier, later in self._successions()
            if (earlier.over_at is None or later.started_at < earlier.over_at)
            and not self._was_suspended(earlier, later.started_at)
        ]

    def successions(self) -> Counter[str]:
        """Count what had become of each run that was not the last one of its job."""
        return Counter(
            "killed"
            if earlier.is_lost
            else f"{earlier.ending} after {self._last_fault(earlier.ended_at)}"
            f"{', behind the proxy' * (earlier.member.worker_id in self.behind_proxy)}"
            for earlier, _ in self._successions()
        )

    def _successions(self) -> Iterator[tuple[Run, Run]]:
        for runs in self.fleet.histories().values():
            yield from pairwise(runs)

    def _was_suspended(self, run: Run, at: float) -> bool:
        """Whether a run stood still at this moment, and did not go on for long after it was roused."""
        return any(
            fault.victim is run.member
            and fault.began_at <= at <= fault.ended_at + ROUSED_WITHIN
            and run.ended_at is not None
            and run.ended_at <= fault.ended_at + ROUSED_WITHIN
            for fault in self.faults
        )

    def _last_fault(self, at: float | None) -> str:
        began = [fault.name for fault in self.faults if at is not None and fault.began_at <= at]
        return began[-1] if began else "nothing"


@asynccontextmanager
async def open_trial(seed: int) -> AsyncIterator[Trial]:
    """Open one with a server of its own, for as long as the body lasts."""
    async with (
        embedded_postgres(tcp_port=0) as server,
        open_trial_on(server, seed, clock=None) as trial,
    ):
        yield trial


@asynccontextmanager
async def open_trial_on(
    servers: PostgresServer | Pair, seed: int, clock: Clock | None
) -> AsyncIterator[Trial]:
    """Open one on servers that are there. They and their workers must have the clock, if there is one."""
    first = servers.primary if isinstance(servers, Pair) else servers
    async with (
        open_database(servers.url) as database,
        open_proxy(first.tcp_url_for()) as proxy,
        trio.open_nursery() as nursery,
    ):
        fleet = Fleet(servers.url, PROGRAM, arguments=["--indirect"])  # for the one behind the proxy
        yield Trial(servers, database, proxy, first, fleet, nursery, random.Random(seed), clock)
        nursery.cancel_scope.cancel()
