"""A picture of the storms: how many stops went wrong, and how soon interrupted jobs ran again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.benchmarks.svg import Bar, Panel, bars, palette, picture
from tests.storm.conditions import CONDITIONS
from tests.storm.ours import is_ours
from tests.storm.referee import Verdict
from tests.storm.report import Result

_SOON = 1.0
"""In how many seconds after the grace period an interrupted job should run elsewhere."""


def svg(results: Sequence[Result]) -> str:
    """Draw the conditions that everybody was in."""
    shared = {condition.name for condition in CONDITIONS if condition.for_peers}
    drawn = [result for result in results if result.condition in shared and result.verdict is not None]
    projects = sorted({result.project for result in drawn}, key=lambda name: not is_ours(name))
    first = {name: "#cc3311" for name in projects if is_ours(name)}
    return picture(list(_panels(drawn, projects, palette(projects, first))))


def _panels(results: Sequence[Result], projects: Sequence[str], colors: dict[str, str]) -> Iterator[Panel]:
    by_project = {
        name: [each.verdict for each in results if each.project == name and each.verdict] for name in projects
    }

    def panel(title: str, figure: Callable[[Sequence[Verdict]], float | None]) -> Panel:
        figures = {name: figure(verdicts) for name, verdicts in by_project.items()}
        return bars(
            title,
            [
                Bar(name if value is not None else f"{name} (not told)", value or 0.0, colors[name])
                for name, value in figures.items()
            ],
        )

    yield panel("Of 100 interrupted jobs, how many ran elsewhere within a second of the grace period", _soon)
    yield panel(
        "Jobs left locked by a process that had ended, per 100 stops", _per_100(lambda v: v.left_locked)
    )
    yield panel("Attempts used up by 100 stops", _per_100(lambda v: v.attempts_used))
    yield panel("Processes that had to be killed, of 100", _per_100(lambda v: v.late_exits))
    yield panel("Jobs that ran twice at once, per 100 stops", _per_100(lambda v: v.overlaps))
    yield panel("Jobs lost, per 100 stops", _per_100(lambda v: v.lost))


def _soon(verdicts: Sequence[Verdict]) -> float | None:
    interrupted = sum(verdict.interrupted for verdict in verdicts)
    soon = sum(delay <= _SOON for verdict in verdicts for delay in verdict.elsewhere)
    return 100 * soon / interrupted if interrupted else None


def _per_100(count: Callable[[Verdict], int | None]) -> Callable[[Sequence[Verdict]], float | None]:
    def figure(verdicts: Sequence[Verdict]) -> float | None:
        stops = sum(verdict.stops for verdict in verdicts)
        counts = [counted for verdict in verdicts if (counted := count(verdict)) is not None]
        return 100 * sum(counts) / stops if stops and counts else None

    return figure
