"""Who competes: ours, with and without prefetching, and every peer that can be installed here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.install import (
    Unavailable,
    cargo_program,
    go_program,
    npm_program,
    python_program,
    version_of,
)
from tests.benchmarks.sizes import CONCURRENCY, PREFETCHED
from tests.benchmarks.tables import fill

__all__ = ["BEST", "CONCURRENCY", "LIMIT", "OURS", "PEERS", "PLAIN", "Contender", "available", "fill"]

_FOLDERS = Path(__file__).parent / "peers"
OURS = "trio_graphile"
LIMIT = "the server's limit"
BEST = "best"
"""The settings that are fastest: with jobs claimed ahead and completions in batches, where a peer can."""
PLAIN = "no prefetch"
"""Jobs are claimed for free slots only."""

EVERYTHING = frozenset({
    "drain",
    "latency",
    "add",
    "calls",
    "stuck",
    "queues",
    "crowded",
    "held",
    "processes",
    "idle",
    "memory",
    "backlog",
})  # fmt: skip
PLAIN_ONLY = frozenset({"drain", "latency", "stuck"})
OTHER_TABLES = frozenset({"drain", "latency", "add", "idle"})


@attrs.frozen(kw_only=True)
class Contender:
    """A worker with one of its settings, driven by a program that knows the benchmarks by name."""

    project: str
    settings: str
    command: list[str]
    options: dict[str, Any] = attrs.field(factory=dict)
    workloads: frozenset[str] = EVERYTHING
    """What it takes part in."""
    unfinished: str | None = None
    """For one with tables of its own, which it fills itself: a query that says whether a job is left."""
    share: float = 1.0
    """What part of the jobs is enough to measure a slower one."""

    @property
    def name(self) -> str:
        """How progress is told."""
        return f"{self.project}, {self.settings}"

    def part_of(self, jobs: int) -> int:
        """Return how many of so many jobs are enough."""
        return max(1, int(jobs * self.share))


def available(peers: Iterable[str], cache: Path) -> list[Contender]:
    """Return ours, and which of these can compete here; say on stderr which cannot, and why."""
    found = list(_ours())
    for name in peers:
        try:
            found += PEERS[name](cache)
        except Unavailable as reason:
            print(f"Without {name}: {reason}.", file=sys.stderr)
    return found


def _ours() -> Iterator[Contender]:
    command = [sys.executable, "-m", "tests.benchmarks.ours"]
    for settings, size, workloads in ((BEST, PREFETCHED, EVERYTHING), (PLAIN, 0, PLAIN_ONLY)):
        options = {"local_queue_size": size}
        yield Contender(
            project=OURS, settings=settings, command=command, options=options, workloads=workloads
        )
    yield Contender(
        project=LIMIT,
        settings=BEST,
        command=[sys.executable, "-m", "tests.benchmarks.limit"],
        options={"sessions": 2, "batch": PREFETCHED},
        workloads=frozenset({"drain"}),
    )


def _graphile_worker(cache: Path) -> Iterator[Contender]:
    version = version_of(_FOLDERS / "graphile_worker/package.json", r'"graphile-worker": "(.+)"')
    project = f"Graphile Worker {version} (Node)"
    command = npm_program(_FOLDERS / "graphile_worker", cache)
    sessions = {"maxPoolSize": CONCURRENCY + 2}  # one for each slot
    batching = {"localQueue": {"size": PREFETCHED}, "completeJobBatchDelay": 0, "failJobBatchDelay": 0}
    yield Contender(
        project=project, settings=BEST, command=command, options={"worker": {**sessions, **batching}}
    )
    yield Contender(
        project=project,
        settings=PLAIN,
        command=command,
        options={"worker": sessions},
        workloads=PLAIN_ONLY,
        share=0.25,  # one round trip per claim and per completion
    )


def _graphile_worker_rs(cache: Path) -> Iterator[Contender]:
    version = version_of(_FOLDERS / "graphile_worker_rs/Cargo.toml", r'graphile_worker = "=(.+)"')
    project = f"Graphile Worker RS {version} (Rust)"
    command = cargo_program(_FOLDERS / "graphile_worker_rs", cache)
    options = {"sessions": CONCURRENCY + 2, "prefetch": PREFETCHED, "complete_milliseconds": 1}
    # Each time it looks, it runs as many jobs as it has slots: to drain fast it has to look often. To be idle
    # it polls as by default, and pauses before it fills its local queue: else it asks without end.
    yield Contender(
        project=project,
        settings=BEST,
        command=command,
        options={**options, "poll_milliseconds": 5},
        workloads=EVERYTHING - {"idle"},
    )
    yield Contender(
        project=f"{project}, polling seldom",
        settings=BEST,
        command=command,
        options={**options, "poll_milliseconds": 1_000, "refetch_milliseconds": 500},
        workloads=frozenset({"idle"}),
    )


def _river(cache: Path) -> Iterator[Contender]:
    """With slots for what others claim ahead, since a goroutine costs little; and with as many as ours."""
    version = version_of(_FOLDERS / "river/go.mod", r"github.com/riverqueue/river v(.+)")
    command = go_program(_FOLDERS / "river", cache)
    for settings, slots, workloads in (
        (BEST, CONCURRENCY + PREFETCHED, OTHER_TABLES),
        (PLAIN, CONCURRENCY, PLAIN_ONLY & OTHER_TABLES),
    ):
        yield Contender(
            project=f"River {version} (Go)",
            settings=settings,
            command=command,
            options={"slots": slots, "sessions": CONCURRENCY + 2},
            workloads=workloads,
            unfinished="select exists (select from river_job where state <> 'completed')",
        )


def _pg_boss(cache: Path) -> Iterator[Contender]:
    version = version_of(_FOLDERS / "pg_boss/package.json", r'"pg-boss": "(.+)"')
    yield Contender(
        project=f"pg-boss {version} (Node)",
        settings=BEST,
        command=npm_program(_FOLDERS / "pg_boss", cache),
        options={"workers": 2, "batch": PREFETCHED},
        workloads=OTHER_TABLES,
        unfinished="select exists (select from pgboss.job where name = 'nothing' and state <> 'completed')",
    )


def _pgqueuer(cache: Path) -> Iterator[Contender]:
    version = version_of(_FOLDERS / "pgqueuer/requirements.txt", r"pgqueuer\[asyncpg\]==(.+)")
    yield Contender(
        project=f"PgQueuer {version} (Python)",
        settings=BEST,
        command=python_program(_FOLDERS / "pgqueuer", cache),
        options={"batch": PREFETCHED, "tasks": 2 * PREFETCHED, "sessions": 4},
        workloads=OTHER_TABLES,
        unfinished="select exists (select from pgqueuer)",
    )


def _procrastinate(cache: Path) -> Iterator[Contender]:
    version = version_of(_FOLDERS / "procrastinate/requirements.txt", r"procrastinate==(.+)")
    yield Contender(
        project=f"Procrastinate {version} (Python)",
        settings=BEST,
        command=python_program(_FOLDERS / "procrastinate", cache),
        options={"sessions": CONCURRENCY + 2},
        workloads=OTHER_TABLES,
        unfinished="select exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
        share=0.05,  # it claims one job at a time
    )


PEERS: dict[str, Callable[[Path], Iterator[Contender]]] = {
    "graphile_worker": _graphile_worker,
    "graphile_worker_rs": _graphile_worker_rs,
    "river": _river,
    "pg_boss": _pg_boss,
    "pgqueuer": _pgqueuer,
    "procrastinate": _procrastinate,
}
"""By the names of their folders, who would compete if it can be installed in this cache."""
