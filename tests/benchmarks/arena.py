"""Where it is measured: one server, a fresh database for each run, contenders in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import trio

from tests.benchmarks.contenders import Contender
from tests.benchmarks.sizes import CONCURRENCY
from trio_graphile import open_database
from trio_graphile.embedded import PostgresServer

ROOT = Path(__file__).parents[2]
_STOP_TIMEOUT = 60.0

Result: TypeAlias = dict[str, Any]


class BenchmarkFailed(Exception):
    """A contender ended badly, or not at all."""


@attrs.define
class Workers:
    """Processes that work until they are told to end."""

    processes: Sequence[trio.Process]
    results: list[Result] = attrs.field(factory=list)
    """What they say in the end, once they were told."""

    def check(self) -> None:
        """Raise `BenchmarkFailed` if one has ended by itself: what it was to do is waited for in vain."""
        for process in self.processes:
            if process.poll() is not None:
                raise BenchmarkFailed(f"a worker ended with {process.returncode} before its time")


@attrs.define
class Arena:
    """A server on which each run gets a database of its own, with a schema that the contender installed."""

    server: PostgresServer
    timeout: float
    """How many seconds one run of a contender may take."""
    _templates: dict[str, str] = attrs.field(factory=dict, init=False)
    _made: int = attrs.field(default=0, init=False)

    @asynccontextmanager
    async def database(self, contender: Contender) -> AsyncIterator[str]:
        """Lend the URL of a database; it is dropped afterwards."""
        if contender.project not in self._templates:
            name = await self._create("template0")
            await self.run(contender, self.server.url_for(name), "migrate")
            self._templates[contender.project] = name
        name = await self._create(self._templates[contender.project])
        try:
            yield self.server.url_for(name)
        finally:
            with trio.move_on_after(_STOP_TIMEOUT, shield=True):
                await self.execute(f'drop database "{name}" with (force)')

    async def _create(self, template: str) -> str:
        self._made += 1
        name = f"arena_{self._made}"
        await self.execute(f'create database "{name}" template "{template}"')
        return name

    async def execute(self, sql: str) -> None:
        """Run a statement outside of all these databases."""
        async with open_database(self.server.url) as database:
            await database.execute(sql)

    async def run(self, contender: Contender, url: str, benchmark: str, **options: object) -> Result:
        """Run one benchmark to its end. Raises `BenchmarkFailed`."""
        process = await _start(contender, url, benchmark, options)
        return await self._result(process)

    @asynccontextmanager
    async def workers(
        self, contender: Contender, url: str, count: int, **options: object
    ) -> AsyncIterator[Workers]:
        """Have workers for the length of the block, all begun at once. Raises `BenchmarkFailed`."""
        async with AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(_ending(await _start(contender, url, "serve", options)))
                for _ in range(count)
            ]
            for process in processes:
                await self._wait_ready(process)
            for process in processes:
                assert process.stdin is not None
                await process.stdin.send_all(b"go\n")
            workers = Workers(processes)
            yield workers
            for process in processes:
                assert process.stdin is not None
                await process.stdin.aclose()
            workers.results += [await self._result(process) for process in processes]

    async def _wait_ready(self, process: trio.Process) -> None:
        assert process.stdout is not None
        said = b"nothing"
        with trio.move_on_after(self.timeout):
            said = bytes(await process.stdout.receive_some())
        if not said.startswith(b"ready"):
            raise BenchmarkFailed(f"was not ready, but said {said!r}")

    async def _result(self, process: trio.Process) -> Result:
        assert process.stdout is not None
        async with _ending(process):
            with trio.move_on_after(self.timeout) as waiting:
                said = b"".join([chunk async for chunk in process.stdout])
                await process.wait()
        if waiting.cancelled_caught:
            raise BenchmarkFailed(f"did not end within {self.timeout:.0f} s")
        if process.returncode != 0:
            raise BenchmarkFailed(f"ended with {process.returncode}; its complaints are on stderr")
        lines = said.decode().strip().splitlines()
        result: Result = json.loads(lines[-1]) if lines else {}
        return result

    @contextmanager
    def server_cpu(self, result: Result) -> Iterator[None]:
        """Put into the result how much CPU the server uses during the block, if that can be known."""
        before = server_cpu_seconds(self.server)
        yield
        after = server_cpu_seconds(self.server)
        if before is not None and after is not None:
            result["server_cpu"] = after - before


async def _start(contender: Contender, url: str, benchmark: str, options: dict[str, object]) -> trio.Process:
    options = {"concurrency": CONCURRENCY, **contender.options, **options}
    return await trio.lowlevel.open_process(
        [*contender.command, json.dumps(benchmark), json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
    )


@asynccontextmanager
async def _ending(process: trio.Process) -> AsyncIterator[trio.Process]:
    """Kill the process if it still runs at the end of the block."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        with trio.move_on_after(_STOP_TIMEOUT, shield=True):
            if process.poll() is None:
                process.kill()
                await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


def server_cpu_seconds(server: PostgresServer) -> float | None:
    """Return what the server has used so far, in all its processes; None where there is no /proc."""
    postmaster = server.process_id
    if not Path("/proc/self/stat").exists() or postmaster is None:
        return None
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # What follows the name, which may hold anything: see `man proc_pid_stat`.
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        if int(stat.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))  # with those of its children that have ended
        elif int(fields[1]) == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
