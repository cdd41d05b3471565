"""A picture of what was measured, as SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from tests.benchmarks.contenders import BEST, LIMIT, OURS
from tests.benchmarks.report import Measurement, Row, jobs_per_second, medians, microseconds_per_job
from tests.benchmarks.svg import Bar, Line, Panel, bars, lines, palette, picture

_COLORS = {OURS: "#cc3311", LIMIT: "#bbbbbb"}
_BASED = ("stuck", "queues", "crowded", "processes")
_BASE = "clear"


def svg(measurements: Sequence[Measurement]) -> str:
    """Draw what there is of it: the drains, what obstacles cost, the backlogs, the held snapshot."""
    colors = palette(sorted({each.project for each in measurements}), _COLORS)
    return picture(list(_panels([each for each in measurements if "error" not in each.result], colors)))


def _panels(measurements: Sequence[Measurement], colors: dict[str, str]) -> Iterator[Panel]:
    drained = [each for each in measurements if each.workload == "drain"]
    if drained:
        rates = medians(drained, jobs_per_second)
        yield bars(
            "Drain: jobs a second", [Bar(_label(row), rate, colors[row[1]]) for row, rate in rates.items()]
        )
    if based := list(_shares_of_base(measurements, colors)):
        yield bars("With something in the way: part of the contender's own speed without", based)
    backlogs = [each for each in measurements if each.workload == "backlog"]
    if backlogs:
        yield lines(
            "Microseconds per job, by the length of the backlog",
            list(_backlog_lines(backlogs, colors)),
            x_title="jobs that wait",
            is_x_logarithmic=True,
        )
    held = [each for each in measurements if each.workload == "held"]
    if held:
        yield lines(
            "Jobs a second, with and without a snapshot that keeps dead rows",
            list(_held_lines(held, colors)),
            x_title="seconds",
        )


def _label(row: Row) -> str:
    _, project, settings = row
    return project if settings == BEST else f"{project}, {settings}"


def _shares_of_base(measurements: Sequence[Measurement], colors: dict[str, str]) -> Iterator[Bar]:
    for workload in _BASED:
        rates = medians([each for each in measurements if each.workload == workload], jobs_per_second)
        for row, rate in rates.items():
            base = rates.get((_BASE, *row[1:]))
            if row[0] != _BASE and base:
                yield Bar(f"{row[0]}: {_label(row)}", rate / base, colors[row[1]])


def _backlog_lines(measurements: Sequence[Measurement], colors: dict[str, str]) -> Iterator[Line]:
    costs = medians(measurements, microseconds_per_job("running_seconds"))
    for project in dict.fromkeys(project for _, project, _ in costs):
        points = [
            (float(case.replace(",", "")), cost)
            for (case, whose, _), cost in costs.items()
            if whose == project
        ]
        yield Line(project, points, colors[project])


def _held_lines(measurements: Sequence[Measurement], colors: dict[str, str]) -> Iterator[Line]:
    cases: dict[tuple[str, str], list[list[float]]] = {}
    for each in measurements:
        cases.setdefault((each.project, each.case), []).append(each.result["per_second"][:-1])
    for (project, case), rounds in cases.items():
        seconds = min(map(len, rounds))
        points = [(float(at), median(counts[at] for counts in rounds)) for at in range(seconds)]
        yield Line(f"{project}: {case}", points, colors[project], dashes=int(case == _BASE))
