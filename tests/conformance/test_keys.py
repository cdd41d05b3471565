"""What becomes of a job that one kind of worker has added and run, when another adds or removes its key."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest

from tests.conformance.programs import KINDS, Peer
from tests.conformance.stage import Row, Stage, all_pairs, pairs

pytestmark = pytest.mark.interop

LATER = "2999-01-01T00:00:00Z"
MODES = ("replace", "preserve_run_at", "unsafe_dedupe")


@attrs.frozen(kw_only=True)
class State:
    """How a job stands that has the key."""

    name: str
    payload: dict[str, Any]
    spec: dict[str, Any] = attrs.field(factory=dict)
    row: Row
    runs: bool = True
    """Whether it was taken."""
    ends: bool = True
    """Whether its run comes to an end before the key is used again."""


WAITING = State(name="waiting", payload={"old": 1}, spec={"run_at": LATER}, row=Row(), runs=False)
RETRIED = State(name="to be retried", payload={"error": "no luck"}, row=Row(attempts=1, error=True))
DEAD = State(
    name="dead",
    payload={"error": "no luck"},
    spec={"max_attempts": 1},
    row=Row(attempts=1, max_attempts=1, error=True),
)
RUNNING = State(name="running", payload={"held": True}, row=Row(attempts=1, locked=True), ends=False)
DOOMED = attrs.evolve(RUNNING, name="running and about to fail", payload={"held": True, "error": "no luck"})
STATES = (WAITING, RETRIED, DEAD, RUNNING, DOOMED)
NEW = {"new": 1}


def rows_after(state: State, action: str) -> tuple[Row | None, Row | None]:
    """Return the row of the old job, and that of a new one, by Graphile Worker's documented rules."""
    old = attrs.evolve(state.row, key="k", payload=state.payload)
    detached = attrs.evolve(old, key=None, attempts=old.max_attempts)
    if action == "unsafe_dedupe":
        return attrs.evolve(old, revision=1), None
    if action == "remove":
        return (detached if old.locked else None), None
    if old.locked or old.attempts >= old.max_attempts:
        return detached, Row(key="k", payload=NEW)
    return Row(key="k", payload=NEW, revision=1), None


async def bring_about(stage: Stage, holder: Peer, state: State) -> int:
    await stage.close_gate()
    job_id = await holder.add(state.payload, job_key="k", queue_name="q", **state.spec)
    if state.runs:
        await holder.ask("work")
        await stage.wait_started(1)
    if state.ends:
        await stage.wait_settled(1)
        await holder.ask("stop")
    return job_id


async def use_key(actor: Peer, action: str) -> None:
    if action == "remove":
        await actor.ask("remove", key="k")
    else:
        await actor.add(NEW, job_key="k", job_key_mode=action, queue_name="q")


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
@pytest.mark.parametrize("action", [*MODES, "remove"])
@pytest.mark.parametrize("pair", all_pairs(KINDS), ids="-of-".join)
async def test_a_key_is_used_again(stage: Stage, pair: tuple[str, str], action: str, state: State) -> None:
    actor, holder = [await stage.peer(kind) for kind in pair]
    job_id = await bring_about(stage, holder, state)
    await use_key(actor, action)

    old, new = rows_after(state, action)
    rows = await stage.rows()
    assert [rows.pop(job_id, None), *rows.values()] == ([old] if new is None else [old, new])

    if not state.ends:  # then it comes to its end as if nobody had asked, but for its attempts
        [new_id] = rows or [None]
        await stage.open_gate()
        if new_id is not None:
            await stage.wait_finished(new_id)
        fails = state is DOOMED
        await stage.wait_settled(int(fails))
        assert old is not None
        left = attrs.evolve(old, locked=False, error=True)
        assert await stage.rows() == ({job_id: left} if fails else {})
        assert [run.job_id for run in await stage.runs()] == [job_id, *([] if new_id is None else [new_id])]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pair", pairs(KINDS), ids="-after-".join)
async def test_a_time_is_kept_where_that_is_promised(stage: Stage, pair: tuple[str, str], mode: str) -> None:
    second, first = [await stage.peer(kind) for kind in pair]
    await first.add({}, job_key="k", run_at=LATER)
    await second.add({}, job_key="k", job_key_mode=mode)
    is_kept = await stage.database.fetch_value(
        "select run_at > now() + interval '1 year' from graphile_worker.jobs"
    )
    assert is_kept == (mode != "replace")


@attrs.frozen
class Merged:
    name: str
    first: Any
    second: Any
    stored: Any
    mode: str = "replace"


MERGED = (
    Merged("two arrays", [{"b": 1, "a": 2}], [3], [{"b": 1, "a": 2}, 3]),
    Merged("two arrays, the time kept", [1], [2, 3], [1, 2, 3], "preserve_run_at"),
    Merged("two arrays, the first kept", [1], [2], [1], "unsafe_dedupe"),
    Merged("an array over an object", {"a": 1}, [2], [2]),
    Merged("an object over an array", [1], {"a": 2}, {"a": 2}),
)


@pytest.mark.parametrize("merged", MERGED, ids=lambda merged: merged.name)
@pytest.mark.parametrize("pair", pairs(KINDS), ids="-after-".join)
async def test_arrays_under_a_key_are_merged(stage: Stage, pair: tuple[str, str], merged: Merged) -> None:
    second, first = [await stage.peer(kind) for kind in pair]
    job_id = await first.add(merged.first, "each", job_key="k", run_at=LATER)
    await second.add(merged.second, "each", job_key="k", job_key_mode=merged.mode)
    assert await stage.rows() == {job_id: Row(key="k", revision=1, payload=merged.stored)}


@pytest.mark.parametrize("modes", list(itertools.permutations(MODES)), ids="-".join)
@pytest.mark.parametrize("pair", pairs(KINDS), ids="-and-".join)
@pytest.mark.exhaustive
async def test_revisions_are_counted_whoever_adds(
    stage: Stage, pair: tuple[str, str], modes: tuple[str, ...]
) -> None:
    one, other = [await stage.peer(kind) for kind in pair]
    for number, (mode, peer) in enumerate(zip(modes, (one, other, one), strict=True)):
        await peer.add({"number": number}, job_key="k", job_key_mode=mode, run_at=LATER)
    [row] = (await stage.rows()).values()
    newest = max(number for number, mode in enumerate(modes) if mode != "unsafe_dedupe" or number == 0)
    assert row == Row(key="k", revision=2, payload={"number": newest})
