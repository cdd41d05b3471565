"""Scenarios in which everybody keeps their word."""

from __future__ import annotations

from collections.abc import Callable

import trio

from tests.scenarios.aftermath import REFUSED_PRIORITY
from tests.scenarios.journal import REASON, Journal
from tests.scenarios.trial import Scenario, Trial
from tests.support.maintenance import add_what_chores_find
from tests.worker.clocks import NOON
from trio_graphile import Client, DatabaseOptions, JobSpec, parse_crontab
from trio_graphile._database.session import persist


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


async def add_what_comes_before_others(client: Client) -> None:
    """Each but the first of a queue is freed when others have been found that come after it."""
    await client.add_raw_jobs(
        [("brief", None, JobSpec(queue_name="a", priority=-1))] * 3
        + [("brief", None)] * 5
        + [("endless", None)]
    )


REFUSE_DELETION = f"""
    create or replace function public.refuse_deletion() returns trigger language plpgsql as $$
    begin
      if old.priority = {REFUSED_PRIORITY} and old.locked_by is not null then
        raise exception 'not this one';
      end if;
      return old;
    end
    $$;
    create or replace trigger refuse_deletion before delete on graphile_worker._private_jobs
      for each row execute function public.refuse_deletion()
"""


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


async def cancel_what_is_endless(trial: Trial) -> None:
    """Two run, and one waits for a slot."""
    client, journal = Client(trial.observer), trial.journal
    await journal.wait_until(lambda: len(journal.running) >= 2)
    sql = "select id from graphile_worker.jobs where task_identifier in ('endless', 'attentive')"
    ids = [row["id"] for row in await persist(lambda: client.database.fetch(sql), what="looking")]
    journal.cancel_requested |= {*ids}
    with trio.move_on_after(10, shield=True):  # what was answered is noted, though the run may be over
        answer = await persist(lambda: client.cancel_jobs(ids, reason=REASON), what="cancelling")
        journal.cancelled_in_the_queue |= {job.id for job in answer.jobs}


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
    def enough(journal: Journal) -> bool:
        elsewhere = journal.taken | journal.behind
        return len(journal.finished | journal.raised.keys() | elsewhere) >= count

    return enough


POOLED = DatabaseOptions(prepared_statements=False)
"""Without them a worker looks at the end for what it has locked, even if it knows of nothing."""

SCENARIOS = {
    "idle": Scenario(concurrency=2, add=add_nothing, enough=lambda journal: journal.is_started),
    "one_job": Scenario(concurrency=2, add=add_one, enough=ended(1)),
    "all_tempers": Scenario(concurrency=3, add=add_all_tempers, enough=ended(6)),
    "serial_queues": Scenario(concurrency=4, add=add_to_queues, enough=ended(6)),
    "prefetch": Scenario(concurrency=3, add=add_many, enough=ended(13), prefetch=6),
    "looks_back": Scenario(concurrency=2, add=add_what_comes_before_others, enough=ended(8), looks_back=True),
    "chores": Scenario(
        concurrency=3, add=add_what_chores_find, enough=ended(4), does_chores=True, database=POOLED
    ),
    "refused_outcome": Scenario(
        concurrency=5, add=add_one_that_cannot_be_completed, enough=ended(5), once=True
    ),
    "batches": Scenario(concurrency=2, add=add_batches, enough=ended(3)),
    "threads": Scenario(
        concurrency=5,
        add=add_threads,
        enough=lambda journal: len(journal.finished | journal.snoozed | journal.taken) >= 3,
    ),
    "processes": Scenario(concurrency=3, add=add_processes, enough=ended(3), once=True),
    "prestarted_process": Scenario(concurrency=3, add=add_processes, enough=ended(1), prestart=True),
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
