"""Medians of what was measured, beside each other, as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median, quantiles
from typing import Any, TypeAlias

import attrs

from tests.benchmarks.contenders import BEST, LIMIT, OURS
from tests.benchmarks.sizes import CONCURRENCY

Result: TypeAlias = dict[str, Any]


@attrs.frozen(kw_only=True)
class Measurement:
    """What one round gave for one contender in one case of a workload."""

    workload: str
    case: str
    project: str
    settings: str
    round: int
    result: Result


@attrs.frozen
class Column:
    """One figure of a result."""

    title: str
    show: Callable[[Result], float]
    more_is_better: bool = attrs.field(default=False, kw_only=True)
    is_compared: bool = attrs.field(default=True, kw_only=True)
    """Whether the ratio to ours stands beside it."""


@attrs.frozen
class Table:
    """How a workload is told."""

    workload: str
    columns: Sequence[Column]
    base: str | None = None
    """The case with which each contender's first column is compared, if there is one."""


Row: TypeAlias = tuple[str, str, str]
"""A case, a project and its settings."""


def jobs_per_second(result: Result) -> float:
    return float(result["jobs"]) / float(result["seconds"])


def microseconds_per_job(name: str) -> Callable[[Result], float]:
    def show(result: Result) -> float:
        return float(result.get(name, math.nan)) / float(result.get("handled") or result["jobs"]) * 1e6

    return show


def late_jobs_per_second(result: Result) -> float:
    """Return the rate in the last third, without the second that was cut short."""
    rates = result["per_second"][:-1] or result["per_second"]
    late = rates[-max(1, len(rates) // 3) :]
    return float(sum(late)) / len(late) if late else math.nan


def _percentile(number: int) -> Callable[[Result], float]:
    return lambda result: quantiles(result["latencies"], n=100)[number - 1] * 1e3


def _per_minute(name: str, factor: float = 1.0) -> Callable[[Result], float]:
    return lambda result: max(0.0, float(result.get(name, math.nan))) * factor / result["seconds"] * 60


def _mebibytes(index: int) -> Callable[[Result], float]:
    return lambda result: float(result["rss"][index] / 2**20) if result.get("rss") else math.nan


def _grown(result: Result) -> float:
    """Return by how much it grew over the second half: caches are full by then."""
    rss = result.get("rss")
    return float((rss[-1] - rss[len(rss) // 2]) / 2**20) if rss else math.nan


_RATE = Column("jobs/s", jobs_per_second, more_is_better=True)
_CLIENT = Column("client CPU us/job", microseconds_per_job("client_cpu"))
_SERVER = Column("server CPU us/job", microseconds_per_job("server_cpu"))
_CPU = [attrs.evolve(_CLIENT, is_compared=False), attrs.evolve(_SERVER, is_compared=False)]

TABLES = [
    Table("drain", [_RATE, _CLIENT, _SERVER]),
    Table("latency", [Column("p50 ms", _percentile(50)), Column("p99 ms", _percentile(99))]),
    Table(
        "add",
        [
            Column(
                "bulk jobs/s", lambda result: result["jobs"] / result["bulk_seconds"], more_is_better=True
            ),
            Column("client CPU us/job", lambda result: result["client_cpu"] / result["jobs"] * 1e6),
            Column("single add p50 ms", lambda result: median(result["single_seconds"]) * 1e3),
        ],
    ),
    Table(
        "calls",
        [
            Column("jobs/s", lambda result: result["jobs"] / result["bulk_seconds"], more_is_better=True),
            _CLIENT,
            _SERVER,
        ],
    ),
    *(Table(name, [_RATE, *_CPU], base="clear") for name in ("stuck", "queues", "crowded", "processes")),
    Table(
        "backlog",
        [Column("us/job", microseconds_per_job("running_seconds")), attrs.evolve(_SERVER, is_compared=False)],
        base="1,000",
    ),
    Table(
        "held",
        [_RATE, Column("jobs/s at last", late_jobs_per_second, more_is_better=True), *_CPU],
        base="clear",
    ),
    Table(
        "idle",
        [
            Column("transactions/min", _per_minute("transactions")),
            Column("client CPU ms/min", _per_minute("client_cpu", 1e3)),
            Column("server CPU ms/min", _per_minute("server_cpu", 1e3)),
        ],
    ),
    Table(
        "memory",
        [
            Column("MiB at first", _mebibytes(0)),
            Column("MiB at last", _mebibytes(-1)),
            Column("MiB grown in the second half", _grown, is_compared=False),
        ],
    ),
]


def markdown(facts: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """Return the tables. A ratio over 1 means that ours is better by that factor."""
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
    tools = ", ".join(facts[name] for name in ("node", "go", "rust") if facts.get(name))
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    lines = [
        f"{facts['cores']} cores ({facts['processor']}), load {facts['load_before']:.2f} before.",
        f"PostgreSQL {facts['postgresql']} ({settings}).",
        f"{facts['system']}; Python {facts['python']}; node {tools}.",
        f"Ours with {packages}.",
        f"Concurrency {CONCURRENCY}. Medians of the rounds; a ratio over 1: ours, set likewise, is better.",
    ]
    for table in TABLES:
        of_this = [each for each in measurements if each.workload == table.workload]
        if of_this:
            lines += ["", *_told(table, of_this)]
    failures = [each for each in measurements if "error" in each.result]
    lines += [""] if failures else []
    lines += [
        f"FAILED: {each.workload}, {each.project}, {each.settings}, round {each.round + 1}: "
        f"{each.result['error']}"
        for each in failures
    ]
    return "\n".join(lines)


def medians(measurements: Iterable[Measurement], show: Callable[[Result], float]) -> dict[Row, float]:
    """Return the median of the rounds for each row, in order of appearance, cases together."""
    shown: dict[Row, list[float]] = {}
    for each in measurements:
        if "error" not in each.result:
            row = (each.case, each.project, each.settings)
            shown.setdefault(row, []).append(show(each.result))
    order = {case: number for number, case in enumerate(dict.fromkeys(case for case, _, _ in shown))}
    rows = sorted(shown, key=lambda row: (order[row[0]], row[2] != BEST, _rank(row[1])))
    return {row: median(shown[row]) for row in rows}


def _rank(project: str) -> tuple[bool, bool, str]:
    """Ours first, the limit last."""
    return project != OURS, project == LIMIT, project


def _told(table: Table, measurements: Sequence[Measurement]) -> Iterator[str]:
    columns = [(column, medians(measurements, column.show)) for column in table.columns]
    titles = [
        title for column, _ in columns for title in (column.title, *(["ratio"] if column.is_compared else []))
    ]
    if table.base:
        titles.append("of its base")
    if table.workload == "drain":
        titles.append("of the limit")
    has_cases = len({case for case, _, _ in columns[0][1]}) > 1
    heads = [table.workload, *(["case"] if has_cases else [])]
    yield "| " + " | ".join([*heads, *titles]) + " |"
    yield "|---" * len(heads) + "|--:" * len(titles) + "|"
    for row in columns[0][1]:
        case, project, settings = row
        name = project if project == LIMIT else f"{project}, {settings}"
        cells = [name, *([case] if has_cases else []), *_cells(table, columns, row)]
        yield "| " + " | ".join(cells) + " |"


def _cells(table: Table, columns: list[tuple[Column, dict[Row, float]]], row: Row) -> Iterator[str]:
    case, _, settings = row
    for column, values in columns:
        yield _number(values[row])
        if column.is_compared:
            ours = values.get((case, OURS, settings))
            yield _ratio(ours, values[row], more_is_better=column.more_is_better)
    first, values = columns[0]
    if table.base:
        base = values.get((table.base, *row[1:]))
        yield _ratio(values[row], base, more_is_better=first.more_is_better)
    if table.workload == "drain":
        yield _ratio(values[row], values.get((case, LIMIT, BEST)), more_is_better=True)


def _number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(ours: float | None, theirs: float | None, *, more_is_better: bool) -> str:
    if not ours or not theirs or math.isnan(ours) or math.isnan(theirs):
        return ""
    return f"{ours / theirs if more_is_better else theirs / ours:.2f}"
