"""The alarms for Prometheus: its own tool reads the rules, and says when each of them goes off."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
OPERATIONS = FOLDER.parents[1] / "docs" / "operations"
RULES = OPERATIONS / "alerts.yml"
TESTS = FOLDER / "alerts.yml"
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="there is no promtool: apt-get install prometheus"
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], check=False, capture_output=True, text=True, timeout=60)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's titles, as Sphinx makes them."""
    titles = re.findall("^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub("[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles}


@needs_promtool
def test_the_rules_are_rules() -> None:
    checked = promtool("check", "rules", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_alarms_go_off_when_they_should_and_at_no_other_time() -> None:
    tested = promtool("test", "rules", TESTS)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
def test_an_alarm_that_does_not_go_off_is_noticed(tmp_path: Path) -> None:
    """Each rule in turn, with a bound that nothing reaches: the tests above would fail."""
    rules = RULES.read_text()
    names = re.findall(r"alert: (\w+)", rules)
    for number, name in enumerate(names):
        before, mark, after = rules.partition(f"alert: {name}\n")
        end = f"alert: {names[number + 1]}\n" if number + 1 < len(names) else "\0"
        rule, next_, others = after.partition(end)
        never = re.sub("(?s)expr: .*?(?=\n +(?:for|labels):)", "expr: vector(1) > 2", rule)
        (tmp_path / "alerts.yml").write_text(before + mark + never + next_ + others)
        tests = TESTS.read_text().replace("../../docs/operations/alerts.yml", "alerts.yml")
        (tmp_path / "tests.yml").write_text(tests)
        tested = promtool("test", "rules", tmp_path / "tests.yml")
        assert f"alertname: {name}," in tested.stdout + tested.stderr


def test_every_alarm_names_a_place_in_the_runbook() -> None:
    rules = RULES.read_text()
    places = re.findall(r'runbook: "operations/runbook\.html#(.+)"', rules)
    assert len(places) == len(re.findall("alert: ", rules))
    assert set(places) <= anchors(OPERATIONS / "runbook.md")
