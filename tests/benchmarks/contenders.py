"""Who competes, on which server, and how one benchmark of one of them is run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.interop.graphile_worker import VERSIONS, programs_for, reason_to_skip
from trio_graphile import open_database
from trio_graphile.embedded import PostgresServer
from trio_graphile.testing import TemplateDatabases

ROOT = Path(__file__).parents[2]
CONCURRENCY = 24
OURS = "trio_graphile"
PREFETCHED = 500

# By setting, and the same settings for both sides: as they come, and with what is fastest.
OUR_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"local_queue_size": 0},
    "local queue": {"local_queue_size": PREFETCHED},
}
NODE_OPTIONS: dict[str, dict[str, Any]] = {
    "default": {"worker": {"maxPoolSize": CONCURRENCY + 2}},  # a session for each slot
    "local queue": {
        "worker": {
            "maxPoolSize": CONCURRENCY + 2,
            "localQueue": {"size": PREFETCHED},
            "completeJobBatchDelay": 0,
            "failJobBatchDelay": 0,
        }
    },
}


@attrs.frozen
class Contender:
    """A worker with one of the settings."""

    project: str
    settings: str
    command: list[str]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """How the tables call it."""
        return f"{self.project}, {self.settings}"


@contextmanager
def contenders() -> Iterator[list[Contender]]:
    """Lend ours, and Node's where there is a Node."""
    us = [sys.executable, "-m", "tests.benchmarks.ours"]
    found = [Contender(OURS, settings, us, options) for settings, options in OUR_OPTIONS.items()]
    with ExitStack() as stack:
        if reason := reason_to_skip():
            print(f"Without Node's: {reason}.", file=sys.stderr)
        else:
            for version in VERSIONS:
                node = stack.enter_context(programs_for(version, ROOT / "tests/benchmarks/node"))
                peer = node.command("peer.mjs")
                found += [
                    Contender(f"Node {version}", settings, peer, options)
                    for settings, options in NODE_OPTIONS.items()
                ]
        yield found


@attrs.frozen
class Arena:
    """A server on which each run gets a database of its own, migrated by the contender itself."""

    server: PostgresServer

    async def drain(self, contender: Contender, jobs: int) -> dict[str, Any]:
        async with self._prepared(contender) as url:
            await fill(url, jobs)
            cpu_before = server_cpu_seconds(self.server)
            result = await _run(contender, url, "drain", jobs=jobs)
            cpu_after = server_cpu_seconds(self.server)
            if cpu_before is not None and cpu_after is not None:
                result["server_cpu"] = cpu_after - cpu_before
            return result

    async def latency(self, contender: Contender, adds: int) -> dict[str, Any]:
        async with self._prepared(contender) as url:
            return await _run(contender, url, "latency", adds=adds, pause=0.005)

    async def add(self, contender: Contender, jobs: int, singles: int) -> dict[str, Any]:
        async with self._prepared(contender) as url:
            return await _run(contender, url, "add", jobs=jobs, singles=singles)

    @asynccontextmanager
    async def _prepared(self, contender: Contender) -> AsyncIterator[str]:
        async with TemplateDatabases(self.server.url).empty() as url:
            await _run(contender, url, "migrate")
            yield url


async def _run(contender: Contender, url: str, benchmark: str, **options: object) -> dict[str, Any]:
    options = {"concurrency": CONCURRENCY, **contender.options, **options}
    ended = await trio.run_process(
        [*contender.command, json.dumps(benchmark), json.dumps(options)],
        capture_stdout=True,
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
    )
    result = json.loads(ended.stdout) if ended.stdout else {}
    return {**options, **result}


async def fill(url: str, jobs: int) -> None:
    """Put jobs into the table, the same way whoever installed it, and leave the server with nothing to do."""
    async with open_database(url) as database:
        await database.execute("""
            insert into graphile_worker._private_tasks (identifier)
            values ('nothing')
            on conflict do nothing
        """)
        await database.execute(
            """
            insert into graphile_worker._private_jobs (task_id, payload)
            select tasks.id, json_build_object('n', number)
            from graphile_worker._private_tasks as tasks
            cross join generate_series(1, $1::integer) as number
            """,
            jobs,
        )
        await database.execute("vacuum (analyze) graphile_worker._private_jobs")
        await database.execute("checkpoint")


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
