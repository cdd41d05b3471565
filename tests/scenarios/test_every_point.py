"""The shutdown guarantee, at every scheduling point (a sample of them without `--exhaustive`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.scenarios.harness import (
    ENDINGS,
    REFUSE_DELETION,
    REFUSED_PRIORITY,
    Scenario,
    end_at,
)
from tests.scenarios.tempers import REASON, Journal
from tests.worker.clocks import NOON
from trio_graphile import Client, Database, JobSpec, parse_crontab
from trio_graphile._database.session import persist

SAMPLE = 12
"""How many points of a scenario and an ending are tried when time is short."""


async def add_one(client: Client) -> None:
    await client.add_raw_job("brief")


async def add_all_tempers(client: Client) -> None:
    await client.add_raw_jobs(
        [(name, None) for name in ("endless", "instant", "failing", "brief", "family", "asking", "brief")]
    )


async def add_to_queues(client: Client) -> None:
    await client.add_raw_jobs(
        [
            (name, None, JobSpec(queue_name=queue))
            for queue in ("a", "b")
            for name in ("brief", "failing", "brief")
        ]
        + [("endless", None, JobSpec(queue_name="c")), ("brief", None, JobSpec(queue_name="c"))]
    )


async def add_many(client: Client) -> None:
    await client.add_raw_jobs([("brief", None)] * 12 + [("failing", None), ("endless", None)])


async def add_one_that_cannot_be_completed(client: Client) -> None:
    await client.database.execute(REFUSE_DELETION)
    await client.add_raw_jobs(
        [("instant", None, JobSpec(priority=REFUSED_PRIORITY)), *[("instant", None)] * 4]
    )


async def add_batches(client: Client) -> None:
    await client.add_raw_jobs(
        [("batch", [1, 2]), ("batch", [1, 2], JobSpec(queue_name="a")), ("brief", None)]
    )


async def add_threads(client: Client) -> None:
    await client.add_raw_jobs(
        [("attentive", None), ("calling", None), ("threaded", None), ("threaded", None), ("snoozing", None)]
    )


async def add_processes(client: Client) -> None:
    await client.add_raw_jobs([("computing", None), ("computing", None), ("brief", None)])


async def add_transactions(client: Client) -> None:
    await client.add_raw_jobs(
        [("settling", None)] * 2 + [("settling", None, JobSpec(queue_name="a"))] * 2 + [("brief", None)]
    )


async def add_some_to_be_cancelled(client: Client) -> None:
    await client.add_raw_jobs([("endless", None), ("attentive", None), ("brief", None), ("endless", None)])


async def cancel_what_is_endless(client: Client, journal: Journal) -> None:
    """Two run, and one waits for a slot."""
    await journal.wait_until(lambda: len(journal.running) >= 2)
    sql = "select id from graphile_worker.jobs where task_identifier in ('endless', 'attentive')"
    ids = [row["id"] for row in await persist(lambda: client.database.fetch(sql), what="looking")]
    journal.cancel_requested |= {*ids}
    await persist(lambda: client.cancel_jobs(ids, reason=REASON), what="cancelling")


CRONTAB = parse_crontab("* * * * * brief ?id=often&fill=1d\n* * * * * instant ?fill=1d")


async def note_what_the_crontab_has_missed(client: Client) -> None:
    """Three times of one entry and two of the other; the present is a fourth and a third."""
    await client.database.execute(
        """
        insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
        values
          ('often', $1::timestamptz - interval '4 minutes', $1::timestamptz - interval '4 minutes'),
          ('instant', $1::timestamptz - interval '3 minutes', $1::timestamptz - interval '3 minutes')
        """,
        NOON,
    )


async def add_nothing(client: Client) -> None:
    pass


def ended(count: int) -> Callable[[Journal], bool]:
    return lambda journal: len(journal.finished) + len(journal.raised) >= count


SCENARIOS = {
    "idle": Scenario(concurrency=2, add=add_nothing, enough=ended(0)),
    "one_job": Scenario(concurrency=2, add=add_one, enough=ended(1)),
    "all_tempers": Scenario(concurrency=3, add=add_all_tempers, enough=ended(6)),
    "serial_queues": Scenario(concurrency=4, add=add_to_queues, enough=ended(6)),
    "prefetch": Scenario(concurrency=3, add=add_many, enough=ended(13), prefetch=6),
    "refused_outcome": Scenario(
        concurrency=5, add=add_one_that_cannot_be_completed, enough=ended(5), once=True
    ),
    "batches": Scenario(concurrency=2, add=add_batches, enough=ended(3)),
    "threads": Scenario(
        concurrency=5, add=add_threads, enough=lambda journal: len(journal.finished | journal.snoozed) == 3
    ),
    "processes": Scenario(concurrency=3, add=add_processes, enough=ended(3), once=True),
    "transactions": Scenario(concurrency=3, add=add_transactions, enough=ended(5), once=True),
    "cancelled_jobs": Scenario(
        concurrency=3,
        add=add_some_to_be_cancelled,
        enough=lambda journal: len(journal.interrupted) >= 2 and len(journal.finished) == 1,
        during=cancel_what_is_endless,
    ),
    "crontab": Scenario(
        concurrency=2, add=note_what_the_crontab_has_missed, enough=ended(7), crontab=CRONTAB
    ),
    "hooks": Scenario(concurrency=3, add=add_all_tempers, enough=ended(6), hooked=True),
    "run_once": Scenario(concurrency=2, add=add_one, enough=ended(1), once=True),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_guarantee_holds_wherever_a_run_ends(
    scenario: str, ending: str, database: Database, database_url: str, request: pytest.FixtureRequest
) -> None:
    plan, act = SCENARIOS[scenario], ENDINGS[ending]
    undisturbed = await end_at(database, database_url, plan, None, act)
    step = 1 if request.config.getoption("--exhaustive") else max(1, undisturbed // SAMPLE)
    point, tried, total = 1, 0, undisturbed
    while point <= total:
        count = await end_at(database, database_url, plan, point, act)
        if point > count:
            break  # this run was over before its turn came: there are no more points
        assert count < 5 * undisturbed, "something runs in circles"
        total = max(total, count)
        point += step
        tried += 1
    request.node.user_properties += [("points", tried), ("of", total)]
