"""Two answers of the server are lost at once, as when a network is cut: what the worker then writes again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest
import trio

from tests.support.intake import Intake, unobserved
from tests.support.tables import locks
from trio_graphile import Client, ConnectionLost, Database, Job, JobSpec
from trio_graphile._database import held_rows, unknown_locks
from trio_graphile._database.claiming import claims
from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.statement import Statement
from trio_graphile._model.outcomes import Failed, Returned
from trio_graphile._worker.counts import Counts
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.recorder import Recorder

ME = "me"


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database)


async def claim(database: Database) -> list[Job]:
    return await claims.get_jobs(database, ME, ["a"], 1)


async def make_due(database: Database) -> None:
    await database.execute("update graphile_worker._private_jobs set run_at = now()")


async def test_a_queue_is_freed_though_an_earlier_job_of_it_is_still_known(
    database: Database, client: Client
) -> None:
    """The failure of the first was written, the answer was lost, and that to a claim of the second, too."""
    await client.add_raw_jobs([("a", None, JobSpec(queue_name="q", priority=n)) for n in range(2)])
    [first] = await claim(database)
    await held_rows.fail_jobs(database, ME, [Failed(first, "no luck")])
    [second] = await claim(database)
    assert await unknown_locks.reconcile(database, ME, [first]) == {second.id}
    assert await locks(database) == []


async def test_a_lost_claim_of_a_job_that_is_known_from_an_earlier_attempt_is_given_back(
    database: Database, client: Client
) -> None:
    """The failure of the first attempt was written, the answer was lost, and that to the next claim, too."""
    await client.add_raw_job("a")
    [first] = await claim(database)
    await held_rows.fail_jobs(database, ME, [Failed(first, "no luck")])
    await make_due(database)
    await claim(database)
    await unknown_locks.reconcile(database, ME, [first])
    assert await held_rows.fail_jobs(database, ME, [Failed(first, "no luck")]) == set()
    assert await locks(database) == []


async def test_a_return_that_is_written_again_takes_no_newer_claim_away(
    database: Database, client: Client
) -> None:
    """The first was written, the answer was lost, and the job claimed again by the same worker: it runs."""
    await client.add_raw_job("a")
    ledger = Ledger()

    async def claim_again() -> None:
        hold(ledger, await claim(database))

    outcomes = recorder(ledger, CutSession(database, claim_again))
    [job] = await claim(database)
    hold(ledger, [job])
    outcomes.put(Returned(job))
    with trio.fail_after(10):
        await outcomes.flush()
    assert [held.id for held in ledger.snapshot()] == [job.id]
    assert await locks(database) == [(f"job {job.id}", ME)]


async def test_an_outcome_from_before_a_lapse_of_the_lease_takes_no_newer_claim_away(
    database: Database, client: Client
) -> None:
    """Meanwhile others took the job and gave it back with its attempt, so that it looks as it did then."""
    await client.add_raw_job("a")
    ledger = Ledger()
    outcomes = recorder(ledger, database)
    [old] = await claim(database)
    hold(ledger, [old])
    await held_rows.return_jobs(database, ME, [Returned(old)])
    ledger.lapsed()
    outcomes.put(Returned(old))
    [new] = await claim(database)
    hold(ledger, [new])
    assert new.attempts == old.attempts
    with trio.fail_after(10):
        await outcomes.flush()
    assert ledger.snapshot() == (new,)
    assert ledger.job(new.id) is new
    assert outcomes.counts == Counts(lost=1)
    assert await locks(database) == [(f"job {new.id}", ME)]
    outcomes.put(Returned(new))
    with trio.fail_after(10):
        await outcomes.flush()
    assert await locks(database) == []


def hold(ledger: Ledger, jobs: Sequence[Job]) -> None:
    ledger.claim_sent()
    ledger.claimed(jobs)


def recorder(ledger: Ledger, session: Executor) -> Recorder:
    return Recorder(
        session=session,
        worker_id=ME,
        ledger=ledger,
        announcements=Intake(no_jobs).announcements,
        job_events=JobEvents(unobserved()),
    )


async def no_jobs(_limit: int) -> list[Job]:
    await trio.lowlevel.checkpoint()
    return []


@attrs.define(eq=False)
class CutSession:
    """A session that is cut before the answer to its first statement has come."""

    _database: Database
    _before_the_loss_is_known: Callable[[], Awaitable[None]]
    _is_cut: bool = False

    async def fetch(self, sql: str | Statement, *arguments: object) -> list[Row]:
        """Run the statement, and lose the first answer."""
        rows = await self._database.fetch(sql, *arguments)
        if not self._is_cut:
            self._is_cut = True
            await self._before_the_loss_is_known()
            raise ConnectionLost("the session was cut")
        return rows

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> Row | None:
        """As `fetch`; what these tests write needs none of these."""
        raise NotImplementedError

    async def fetch_value(self, sql: str | Statement, *arguments: object) -> object:
        """As above."""
        raise NotImplementedError

    async def execute(self, sql: str | Statement, *arguments: object) -> str:
        """As above."""
        raise NotImplementedError
