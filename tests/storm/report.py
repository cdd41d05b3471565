"""What came of the storms, as values that go to JSON and back, and as tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs

from tests.storm.adapters import Contender
from tests.storm.conditions import CONDITIONS, Condition
from tests.storm.ours import is_ours
from tests.storm.referee import Verdict, quantile
from tests.storm.storm import Outcome, Size

BEGIN, END = "<!-- begin: nox -s storm -- --page docs/shutdown.md -->", "<!-- end -->"
_MOST_COMPLAINTS = 5
_TOOLS = {"node": "Node ", "go": "", "rust": ""}
"""What stands before the versions of tools, as these spell them."""


def _texts(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(texts)


@attrs.frozen(kw_only=True)
class Result:
    """One storm over one contender."""

    project: str
    settings: str
    remarks: Sequence[str] = attrs.field(converter=_texts)
    condition: str
    size: dict[str, int]
    slack: float
    """How many seconds later than promised an exit had to be to count as late."""
    verdict: Verdict | None
    """None if a program of the contender did not do its part."""
    complaints: Sequence[str] = attrs.field(default=(), converter=_texts)
    """What its processes said that ended by themselves, or that could not begin; the first of them."""
    seconds: float = 0.0
    load: float = attrs.field(factory=lambda: os.getloadavg()[0])
    """The machine's load at the end: what else it did tells in all times."""

    @property
    def which(self) -> tuple[str, str]:
        """Which storm it was, of a run."""
        return self.project, self.condition

    @classmethod
    def of(cls, contender: Contender, condition: Condition, size: Size, outcome: Outcome | str) -> Result:
        """Make one of an outcome, or of the reason why there is none."""
        told = attrs.asdict(size)
        if isinstance(outcome, str):
            verdict, complaints, seconds = None, [outcome], 0.0
        else:
            verdict, seconds = outcome.verdict, outcome.seconds
            complaints = outcome.complaints[:_MOST_COMPLAINTS]
        return cls(
            project=contender.project,
            settings=contender.settings,
            remarks=contender.remarks,
            condition=condition.name,
            size=told,
            slack=condition.slack,
            verdict=verdict,
            complaints=complaints,
            seconds=seconds,
        )

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Result:
        verdict = read["verdict"]
        return cls(**{**read, "verdict": None if verdict is None else Verdict(**verdict)})


def to_json(facts: dict[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    return {"machine": facts, "results": [attrs.asdict(result) for result in results]}


Column: TypeAlias = tuple[str, Callable[[Verdict], str]]


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _elsewhere(part: float) -> Callable[[Verdict], str]:
    return lambda verdict: _seconds(quantile(verdict.elsewhere, part))


def _exits(part: float) -> Callable[[Verdict], str]:
    return lambda verdict: _seconds(quantile(verdict.exits, part))


_COLUMNS: tuple[Column, ...] = (
    ("stops", lambda verdict: f"{verdict.stops:,}"),
    ("jobs", lambda verdict: f"{verdict.jobs:,}"),
    ("interrupted", lambda verdict: f"{verdict.interrupted:,}"),
    ("lost", lambda verdict: str(verdict.lost)),
    ("twice at once", lambda verdict: str(verdict.overlaps + verdict.queue_overlaps)),
    ("attempts used", lambda verdict: "?" if verdict.attempts_used is None else str(verdict.attempts_used)),
    ("left locked", lambda verdict: str(verdict.left_locked)),
    ("late exits", lambda verdict: str(verdict.late_exits)),
    ("elsewhere after p50", _elsewhere(0.5)),
    ("p99", _elsewhere(0.99)),
    ("max", _elsewhere(1.0)),
    ("never", lambda verdict: str(verdict.unresumed)),
    ("exit p50", _exits(0.5)),
    ("max", _exits(1.0)),
)


def markdown(facts: dict[str, Any], results: Sequence[Result]) -> str:
    """Return a table for each condition, with a row for each contender, and what else is to be said."""
    parts = [_preface(facts, results)]
    for condition in CONDITIONS:
        of_this = [result for result in results if result.condition == condition.name]
        of_this.sort(key=lambda result: not is_ours(result.project))
        if of_this:
            parts += [f"**{condition.name}**: {condition.text}.", "\n".join(_table(of_this))]
    if notes := list(_notes(results)):
        parts.append("\n".join(notes))
    return "\n\n".join(parts) + "\n"


def _preface(facts: dict[str, Any], results: Sequence[Result]) -> str:
    tools = ", ".join(f"{title}{facts[name]}" for name, title in _TOOLS.items() if facts.get(name))
    sizes = {(each.size["workers"], each.size["concurrency"]) for each in results}
    slacks = " or ".join(f"{slack:g}" for slack in sorted({each.slack for each in results}))
    loads = [each.load for each in results]
    fleets = " or ".join(f"{workers} processes of {slots} slots" for workers, slots in sorted(sizes))
    return (
        f"{facts['cores']} cores ({facts['processor']}), Python {facts['python']}, PostgreSQL "
        f"{facts['postgresql']}{', ' + tools if tools else ''}; {fleets}. Times are seconds. "
        f"The load was {min(loads):.0f} to {max(loads):.0f}. An exit is late {slacks} s after the grace "
        f"period and 4 s for the last outcomes; then comes SIGKILL. "
        f"`elsewhere after` counts from SIGTERM, less the grace period; `never`: not before the storm ended."
    )


def _table(results: Iterable[Result]) -> Iterator[str]:
    titles = ["", *(title for title, _ in _COLUMNS)]
    yield "| " + " | ".join(titles) + " |"
    yield "|---|" + "---:|" * len(_COLUMNS)
    for result in results:
        verdict = result.verdict
        cells = (
            [show(verdict) for _, show in _COLUMNS] if verdict else ["failed", *[""] * (len(_COLUMNS) - 1)]
        )
        yield f"| {result.project} | " + " | ".join(cells) + " |"


def _notes(results: Sequence[Result]) -> Iterator[str]:
    told = {result.project: result for result in results}
    for result in told.values():
        yield f"- **{result.project}**: {result.settings}." + "".join(f" {text}" for text in result.remarks)
    for result in results:
        verdict = result.verdict
        more = []
        if verdict is None:
            more.append(f"could not be measured: {result.complaints[0].splitlines()[0][:300]}")
        else:
            if verdict.deaf_overlaps:
                deaf = verdict.deaf_overlaps
                more.append(
                    f"jobs that ran elsewhere while a thread of theirs went on, as documented: {deaf}"
                )
            if verdict.crashes:
                more.append(f"processes that ended though nobody had told them to: {verdict.crashes}")
            if verdict.repeated:
                more.append(f"jobs that came to their end more than once: {verdict.repeated}")
        if more:
            yield f"- {result.project}, {result.condition}: {'; '.join(more)}."


def with_tables(page: str, tables: str) -> str:
    """Put the tables where they belong in a page. Raises `ValueError`."""
    before, begun, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"the page has no place for tables: {BEGIN}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"
