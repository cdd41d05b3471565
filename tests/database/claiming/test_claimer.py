"""Which statements a claimer claims with, by what it learned from the claims before."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trio_graphile import Client, Database, JobSpec, StatementFailed
from trio_graphile._database.claiming import claims, memory, plain_claims, source
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.statement import Statement
from trio_graphile._model.bounds import ANY_JOB, Bound

WHOLE = claims.GET_JOBS
PLAIN = plain_claims.GET_PLAIN_JOBS
PROBE = plain_claims.PROBE
SLOW, QUICK, AT_ONCE = 0.05, 0.001, 0.0001
LATER = 1.1
"""Another probe is due by then."""


@attrs.define(eq=False)
class Watched:
    """Runs statements in no time but what a test says, and notes which."""

    executor: Executor
    clock: MockClock
    takes: float = QUICK
    """How many seconds each takes."""
    seen: list[str | Statement] = attrs.field(factory=list)
    asked: Callable[[], object] = lambda: None
    """Called before one is run."""
    answered: Callable[[], object] = lambda: None
    """Called when one has brought rows, or none."""

    async def fetch(self, sql: str | Statement, *arguments: object) -> list[Row]:
        self._note(sql)
        rows = await self.executor.fetch(sql, *arguments)
        self.answered()
        return rows

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None:
        self._note(sql)
        return await self.executor.fetch_row(sql, *arguments)

    async def fetch_value(self, sql: str | Statement, *arguments: object) -> Any:
        self._note(sql)
        return await self.executor.fetch_value(sql, *arguments)

    async def execute(self, sql: str | Statement, *arguments: object) -> str:
        self._note(sql)
        return await self.executor.execute(sql, *arguments)

    def _note(self, sql: str | Statement) -> None:
        self.seen.append(sql)
        self.clock.jump(self.takes)
        self.asked()

    def seen_since(self) -> list[str | Statement]:
        """Return what was run since this was asked last."""
        seen, self.seen = self.seen, []
        return seen


@pytest.fixture
async def client(database: Database) -> Client:
    return Client(database)


@pytest.fixture
async def session(database: Database, mock_clock: MockClock) -> Watched:
    """Its clock is the one of a test that asks for `mock_clock`, too, and stands still otherwise."""
    return Watched(database, mock_clock)


@pytest.fixture
async def claimer(session: Watched) -> Claimer:
    claimer = Claimer(session, "trio_graphile_me")
    claimer.share(("a",), [])
    return claimer


@pytest.fixture
def many_dead_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any number of dead rows be many: two slow claims tell a start."""
    monkeypatch.setattr(memory, "MANY_DEAD_ROWS", 0)


async def add(client: Client, count: int = 1, **spec: Any) -> list[int]:
    jobs = await client.add_raw_jobs([("a", None, JobSpec(**spec))] * count)
    return [job.id for job in jobs]


async def claim(claimer: Claimer, limit: int) -> list[int]:
    return [job.id for job in await claimer.claim(limit, ANY_JOB, [])]


async def test_claims_are_plain_once_a_probe_has_found_that_enough(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 3)
    assert [await claim(claimer, 1) for _ in ids] == [[id_] for id_ in ids]
    assert session.seen_since() == [WHOLE, PROBE, PLAIN, PLAIN]


async def test_a_claim_that_brings_nothing_is_no_reason_to_give_up_plain_ones(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    """There may be nothing to be had; but whether there is only the whole claim knows."""
    await add(client, 2)
    assert len(await claim(claimer, 1) + await claim(claimer, 1)) == 2
    session.seen_since()
    assert await claim(claimer, 1) == []
    assert await claim(claimer, 1) == []
    assert session.seen_since() == [PLAIN, WHOLE] * 2


async def test_a_claim_that_is_cancelled_before_its_second_statement_says_what_the_first_has_brought(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    """Even if that is nothing: else the worker would have to search the table for what it may have locked."""
    await add(client, 2)
    assert len(await claim(claimer, 1) + await claim(claimer, 1)) == 2
    session.seen_since()
    with trio.CancelScope() as cancelled:  # noqa: TID251  # cancelled, not shielded
        session.answered = cancelled.cancel
        assert await claim(claimer, 1) == []
    assert session.seen_since() == [PLAIN]


async def test_a_claim_of_several_sources_that_is_cancelled_after_the_first_says_that_it_brought_nothing(
    claimer: Claimer, session: Watched, mock_clock: MockClock
) -> None:
    claimer.share(("a", "b"), [Bound(1, frozenset(["b"]))])
    with trio.CancelScope() as cancelled:  # noqa: TID251  # cancelled, not shielded
        session.answered = cancelled.cancel
        assert await claim(claimer, 1) == []
    assert session.seen_since() == [WHOLE]


async def test_plain_claims_end_with_a_job_that_they_do_not_take(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    await add(client, 2)
    assert len(await claim(claimer, 1) + await claim(claimer, 1)) == 2
    queued = await add(client, queue_name="q")
    session.seen_since()
    assert await claim(claimer, 1) == queued
    unqueued = await add(client)
    assert await claim(claimer, 1) == unqueued
    assert session.seen_since() == [PLAIN, WHOLE, WHOLE]


async def test_plain_claims_end_after_two_slow_ones(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 5)
    await claim(claimer, 1)
    session.takes = SLOW
    for id_ in ids[1:3]:
        assert await claim(claimer, 1) == [id_]
    session.seen_since()
    assert await claim(claimer, 1) == [ids[3]]
    assert session.seen_since() == [WHOLE]


@pytest.mark.usefixtures("many_dead_rows")
async def test_among_dead_rows_a_claim_begins_at_the_start_and_a_look_back_finds_the_rest(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 6)
    session.takes = SLOW
    for id_ in ids[:2]:
        assert await claim(claimer, 1) == [id_]
    assert await claim(claimer, 1) == [ids[2]]  # it has looked back once
    session.takes = QUICK
    better = await add(client, priority=-1)
    assert await claim(claimer, 1) == [ids[3]]
    assert claimer.look_again_at == math.inf  # there was no room for more
    assert await claim(claimer, 2) == ids[4:]
    assert await claim(claimer, 5) == []
    assert trio.current_time() < claimer.look_again_at < trio.current_time() + 20 * SLOW
    mock_clock.jump(20 * SLOW)
    assert await claim(claimer, 5) == better


@pytest.mark.usefixtures("many_dead_rows")
async def test_a_look_back_goes_on_where_there_was_no_room_for_all(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 5)
    session.takes = SLOW
    for id_ in ids[:2]:
        assert await claim(claimer, 1) == [id_]
    session.takes = AT_ONCE
    older = await add(client, 3, run_at=datetime.now(UTC) - timedelta(days=800))
    better = await add(client, 2, priority=-1)
    assert await claim(claimer, 1) == better[:1]
    assert await claim(claimer, 2) == better[1:] + older[:1]
    assert await claim(claimer, 1) == older[1:2]
    assert await claim(claimer, 2) == older[2:] + ids[2:3]


@pytest.mark.usefixtures("many_dead_rows")
async def test_whoever_must_have_looked_everywhere_can_say_so(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 3)
    session.takes = SLOW
    for id_ in ids:
        assert await claim(claimer, 1) == [id_]
    better = await add(client, priority=-1)
    claimer.look_everywhere()
    assert await claim(claimer, 5) == better
    assert claimer.look_again_at == math.inf


@pytest.mark.usefixtures("many_dead_rows")
async def test_where_there_is_no_room_nothing_was_left_out_that_is_worth_another_look(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    claimer.share(("a",), [Bound(5, frozenset(["a"]))])
    await add(client, 2)
    session.takes = SLOW
    for _ in range(2):
        await claim(claimer, 1)
    session.takes = QUICK
    await claim(claimer, 5)
    assert claimer.look_again_at < math.inf
    assert await claimer.claim(5, ANY_JOB, ["a"] * 5) == []
    assert claimer.look_again_at == math.inf


async def test_where_few_rows_are_dead_claims_look_everywhere_although_they_are_slow(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 4)
    session.takes = SLOW
    for id_ in ids[:2]:
        assert await claim(claimer, 1) == [id_]
    for _ in range(2):
        better = await add(client, priority=-1)
        assert await claim(claimer, 1) == better
    assert claimer.look_again_at == math.inf


async def test_a_worker_without_jobs_asks_whether_its_start_is_still_worth_it(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 2)
    session.takes = SLOW
    for id_ in ids:
        assert await claim(claimer, 1) == [id_]
    mock_clock.jump(LATER)
    session.seen_since()
    assert await claim(claimer, 1) == []
    assert session.seen_since()[0] is PROBE
    assert claimer.look_again_at == math.inf


@pytest.mark.usefixtures("many_dead_rows")
async def test_jobs_of_a_better_priority_among_dead_rows_get_a_start_of_their_own(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    ids = await add(client, 3)
    session.takes = SLOW
    for id_ in ids[:2]:
        assert await claim(claimer, 1) == [id_]
    better = await add(client, 4, priority=-1)
    for id_ in better[:3]:
        assert await claim(claimer, 1) == [id_]
    mock_clock.jump(0.1)  # less than the pause of a look at better priorities
    session.takes = QUICK
    assert await claim(claimer, 2) == better[3:] + ids[2:]


@pytest.mark.usefixtures("many_dead_rows")
async def test_tasks_without_jobs_need_not_step_over_the_dead_rows_of_others(
    claimer: Claimer, session: Watched, client: Client, mock_clock: MockClock
) -> None:
    claimer.share(("a", "b"), [Bound(1, frozenset(["b"]))])
    await add(client, 6)
    session.takes = SLOW
    for _ in range(4):
        await claim(claimer, 1)
    for _ in range(4):
        await claim(claimer, 5)
    assert claimer.look_again_at < math.inf
    assert all(source.start is not None for source in claimer._sources)  # nobody else says it


@pytest.mark.usefixtures("many_dead_rows")
async def test_what_was_claimed_before_a_row_that_nobody_can_read_is_not_forgotten(
    claimer: Claimer,
    session: Watched,
    client: Client,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await add(client, 3)
    session.takes = SLOW
    for id_ in ids[:2]:
        assert await claim(claimer, 1) == [id_]
    session.takes = AT_ONCE
    better = await add(client, priority=-1)
    unreadable = StatementFailed("invalid byte sequence", sqlstate="22021")

    def fail_at_the_second() -> None:
        if session.seen.count(WHOLE) == 2:
            session.asked = lambda: None
            raise unreadable

    async def none_is(_session: Executor, _identifiers: tuple[str, ...]) -> bool:
        return True

    monkeypatch.setattr(source, "fail_unreadable", none_is)
    session.seen_since()
    session.asked = fail_at_the_second
    assert await claim(claimer, 5) == better + ids[2:]
