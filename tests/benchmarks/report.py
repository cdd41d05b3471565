"""Medians of what was measured, beside each other, as a Markdown table; and on what it was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeAlias

from tests.benchmarks.contenders import CONCURRENCY, OURS
from trio_graphile import open_database
from trio_graphile.embedded import PostgresServer

Result: TypeAlias = dict[str, Any]
Results: TypeAlias = dict[str, dict[str, list[Result]]]
"""By contender and benchmark, what each round gave."""

_MEASURED_WITH = ("trio", "trio-asyncio", "asyncpg", "attrs", "cattrs", "orjson")
_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")


async def machine_facts(server: PostgresServer, folder: str) -> dict[str, Any]:
    """Say on what was measured."""
    async with open_database(server.url) as database:
        settings = {name: await database.fetch_value(f"show {name}") for name in _SETTINGS}
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "node": _node_version(),
        "postgresql": server.version,
        "settings": settings,
        "free_bytes": shutil.disk_usage(folder).free,
        "packages": {name: version(name) for name in _MEASURED_WITH},
    }


def markdown(facts: dict[str, Any], results: Results) -> str:
    """Return the tables. A ratio over 1 means that ours is better by that factor."""
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
    lines = [
        f"{facts['cores']} cores ({facts['processor']}), load {facts['load_before']:.2f} before.",
        f"PostgreSQL {facts['postgresql']} ({settings}); Python {facts['python']}; Node {facts['node']}.",
        f"Concurrency {CONCURRENCY}. Medians of the rounds; a ratio over 1: ours, set likewise, is better.",
    ]
    for benchmark, columns in _COLUMNS.items():
        if any(benchmark in measured for measured in results.values()):
            lines += ["", *_table(benchmark, columns, results)]
    return "\n".join(lines)


Column: TypeAlias = tuple[str, Callable[[Result], float], bool]
"""Its title, what it shows of one round, and whether more is better."""


def _percentile(name: str, number: int) -> Column:
    def show(result: Result) -> float:
        seconds: list[float] = result["seconds"]
        return quantiles(seconds, n=100)[number - 1] * 1000

    return name, show, False


def _per_job(title: str, name: str) -> Column:
    def show(result: Result) -> float:
        return float(result.get(name, "nan")) / float(result["jobs"]) * 1e6

    return title, show, False


_COLUMNS: dict[str, list[Column]] = {
    "drain": [
        ("jobs/s", lambda result: result["jobs"] / result["seconds"], True),
        _per_job("client CPU us/job", "client_cpu"),
        _per_job("server CPU us/job", "server_cpu"),
    ],
    "latency": [
        _percentile("p50 ms", 50),
        _percentile("p95 ms", 95),
        _percentile("p99 ms", 99),
    ],
    "add": [
        ("bulk jobs/s", lambda result: result["jobs"] / result["bulk_seconds"], True),
        ("single add p50 ms", lambda result: median(result["single_seconds"]) * 1000, False),
    ],
}


def _table(benchmark: str, columns: Sequence[Column], results: Results) -> Iterable[str]:
    titles = [title for title, _, _ in columns]
    yield f"| {benchmark} | " + " | ".join(f"{title} | ratio" for title in titles) + " |"
    yield "|---" + "|--:|--:" * len(columns) + "|"
    for name, measured in results.items():
        _, settings = name.split(", ")
        ours = results.get(f"{OURS}, {settings}", {}).get(benchmark)
        cells = []
        for _, show, more_is_better in columns:
            value = _median(measured[benchmark], show)
            cells.append(f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
            cells.append(_ratio(_median(ours, show) if ours else None, value, more_is_better=more_is_better))
        yield f"| {name} | " + " | ".join(cells) + " |"


def _median(rounds: Sequence[Result], show: Callable[[Result], float]) -> float:
    return median(map(show, rounds))


def _ratio(ours: float | None, theirs: float, *, more_is_better: bool) -> str:
    if not ours or not theirs:
        return ""
    return f"{ours / theirs if more_is_better else theirs / ours:.2f}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _node_version() -> str | None:
    if shutil.which("node") is None:
        return None
    return subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
