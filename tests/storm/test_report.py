"""What was measured survives JSON, and stands in the page and the picture."""

from __future__ import annotations

import json

import attrs
import pytest

from tests.storm.adapters import Contender
from tests.storm.conditions import CONDITIONS
from tests.storm.ours_client import jobs_of
from tests.storm.ours_worker import tasks
from tests.storm.plot import svg
from tests.storm.referee import Evidence, judge
from tests.storm.report import BEGIN, END, Result, markdown, to_json, with_tables
from tests.storm.storm import Outcome, Size

FACTS = {"cores": 2, "processor": "a", "python": "3", "postgresql": "18", "node": None}


def result(project: str, outcome: str | None = None) -> Result:
    nothing = Evidence(added={}, marks=())
    verdict = attrs.evolve(
        judge(nothing), stops=50, interrupted=4, left_locked=7, elsewhere=[0.25, 0.5, 8.0], deaf_overlaps=2
    )
    contender = Contender(project=project, settings="grace=1", command=[], states="")
    happened = outcome or Outcome(verdict=verdict, evidence=nothing, complaints=[], seconds=1.0)
    return Result.of(contender, CONDITIONS[1], Size(stops=50), happened)


RESULTS = [result("trio_graphile 1 (Python)"), result("Other 2 (Go)", "it did not start")]


def test_results_survive_json() -> None:
    read = json.loads(json.dumps(to_json(FACTS, RESULTS)))
    assert [Result.from_json(each) for each in read["results"]] == RESULTS


def test_the_tables_have_a_row_for_each_contender_and_say_who_could_not_be_measured() -> None:
    tables = markdown(FACTS, RESULTS)
    [row] = [line for line in tables.splitlines() if line.startswith("| trio_graphile 1")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:] == [
        *("50", "0", "4", "0", "0", "?", "7", "0"),
        *("0.50", "8.00", "8.00", "0", "-", "-"),
    ]
    assert "| Other 2 (Go) | failed |" in tables
    assert "it did not start" in tables
    assert "while a thread of theirs went on, as documented: 2" in tables


def test_the_tables_replace_those_of_the_page() -> None:
    once = with_tables(f"before\n{BEGIN}\nold\n{END}\nafter\n", "new")
    assert once == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    assert with_tables(once, "new") == once
    with pytest.raises(ValueError, match="no place"):
        with_tables("nothing", "new")


def test_the_picture_shows_whoever_was_measured() -> None:
    picture = svg(RESULTS)
    assert "trio_graphile 1 (Python)" in picture
    assert "Other 2" not in picture


def test_ours_can_have_every_kind_of_handler() -> None:
    kinds = {kind for condition in CONDITIONS for kind in condition.kinds}
    added = jobs_of({"token": 1, "kind": kind, "seconds": 1.0} for kind in sorted(kinds))
    assert {identifier for identifier, _, _ in added} == set(tasks.identifiers)
    assert len({condition.name for condition in CONDITIONS}) == len(CONDITIONS)
