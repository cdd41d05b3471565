"""What one kind of worker adds, another runs; both leave in the table what Graphile Worker documents."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from tests.conformance.programs import KINDS
from tests.conformance.stage import Row, Stage, all_pairs

pytestmark = pytest.mark.interop


@attrs.frozen(kw_only=True)
class Added:
    """A job that is added, and what becomes of it."""

    name: str
    payload: Any = attrs.field(factory=dict)
    spec: dict[str, Any] = attrs.field(factory=dict)
    identifier: str = "act"
    options: dict[str, Any] = attrs.field(factory=dict)
    """Of the worker that runs it."""
    runs: int = 1
    left: Row | None = None
    """The row afterwards; None if it is gone."""
    delay: float | None = None
    """How many seconds after its failure it is tried again."""


A_WHILE = 10.0
"""Within how many seconds of its start a handler fails, on the busiest machine."""
ANY_JSON = {
    "text": "grün \u2028 \U0001f40d",
    "nested": [[], {"a": None}],
    "number": -1.5,
    "large": 9007199254740991,
}
ITEMS = [{"n": 1}, {"n": 2, "error": "two"}, {"n": 3}, {"n": 4, "error": "four"}]

ADDED = (
    Added(name="as plain as can be"),
    Added(name="any JSON", payload=ANY_JSON),
    Added(name="an array to a plain task", payload=[1, "two", None]),
    Added(name="in a queue", spec={"queue_name": "q"}),
    Added(name="in the queue without a name", spec={"queue_name": ""}),
    Added(name="with a key", spec={"job_key": "k"}),
    Added(
        name="with flags that nobody forbids", spec={"flags": ["a", "b"]}, options={"forbidden_flags": ["c"]}
    ),
    Added(
        name="with a forbidden flag",
        spec={"flags": ["a", "b"]},
        options={"forbidden_flags": ["b", "c"]},
        runs=0,
        left=Row(),
    ),
    Added(name="for tomorrow", spec={"run_at": "2999-01-01T00:00:00Z"}, runs=0, left=Row()),
    Added(name="of an unknown task", identifier="nobody", runs=0, left=Row()),
    Added(
        name="that fails",
        payload={"error": "no luck"},
        spec={"queue_name": "q", "job_key": "k"},
        left=Row(attempts=1, key="k", error=True, payload={"error": "no luck"}),
        delay=math.e,
    ),
    Added(
        name="that fails for the last time",
        payload={"error": "no luck"},
        spec={"max_attempts": 1},
        left=Row(attempts=1, max_attempts=1, error=True, payload={"error": "no luck"}),
    ),
    Added(name="a batch that succeeds", identifier="each", payload=[{"n": 1}, {"n": 2}]),
    Added(
        name="a batch that fails in part",
        identifier="each",
        payload=ITEMS,
        spec={"queue_name": "q"},
        left=Row(attempts=1, error=True, payload=[ITEMS[1], ITEMS[3]]),
        delay=math.e,
    ),
    Added(name="taken in batches", spec={"queue_name": "q"}, options={"batch": 5}),
)


@pytest.mark.parametrize("added", ADDED, ids=lambda added: added.name)
@pytest.mark.parametrize("pair", all_pairs(KINDS), ids="-to-".join)
async def test_one_adds_and_another_runs(stage: Stage, pair: tuple[str, str], added: Added) -> None:
    adder, runner = [await stage.peer(kind) for kind in pair]
    await runner.ask("work", **added.options)
    job_id = await adder.add(added.payload, added.identifier, **added.spec)
    last = await adder.add({})  # in the order of their times, so by the end of this the first was looked at
    await stage.wait_finished(last)
    await stage.wait_settled(int(added.left is not None))

    assert await stage.rows() == ({} if added.left is None else {job_id: added.left})
    ran = sorted((run.job_id, run.side, run.payload) for run in await stage.runs())
    assert ran == [(job_id, runner.kind, added.payload)] * added.runs + [(last, runner.kind, {})]
    assert await stage.locked_queues() == []
    if added.delay is not None:
        delay = await stage.database.fetch_value("""
            select extract(epoch from jobs.run_at - runs.started_at)::float8
            from graphile_worker.jobs
            join runs on runs.job_id = jobs.id
        """)
        assert added.delay <= delay <= added.delay + A_WHILE


@pytest.mark.parametrize("pair", all_pairs(KINDS), ids="-to-".join)
async def test_null_is_no_payload_but_to_rust(stage: Stage, pair: tuple[str, str]) -> None:
    """See "No payload" in docs/compatibility.md."""
    adder, runner = [await stage.peer(kind) for kind in pair]
    job_id = await adder.add(None)
    stored: object = None if adder.kind == "rust" else {}
    assert await stage.rows() == {job_id: Row(payload=stored)}
    await runner.ask("work")
    await stage.wait_finished(job_id)
    assert [run.payload for run in await stage.runs()] == [stored]
