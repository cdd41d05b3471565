"""Scenarios in which handlers, neighbours, triggers and the moment of the start are as bad as can be."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import attrs
import trio

from tests.scenarios.bad_tempers import DOOMED, EXITS
from tests.scenarios.journal import Journal
from tests.scenarios.neighbours import LOCKS
from tests.scenarios.plans import CRONTAB, add_nothing, ended, note_what_the_crontab_has_missed
from tests.scenarios.trial import Scenario, Trial
from trio_graphile import Client, ConnectionLost, DatabaseOptions, JobSpec

UNWRITABLE_PRIORITY = 9
MOST_UNWRITTEN = 3
"""How many outcomes the recorder takes where it is to be full."""

LOCK_JOBS = """
    select id
    from graphile_worker._private_jobs
    where id = any($1::bigint[])
    for no key update
"""

REFUSE_ALL = f"""
    create or replace function public.refuse() returns trigger language plpgsql as $$
    begin
      if old.locked_by is not null and (tg_op = 'DELETE' or new.locked_by is null) then
        raise exception 'not this one';
      end if;
      return case when tg_op = 'DELETE' then old else new end;
    end
    $$;
    create trigger unwritable before update or delete on graphile_worker._private_jobs
      for each row when (old.priority = {UNWRITABLE_PRIORITY}) execute function public.refuse()
"""

DAWDLE = """
    create or replace function public.dawdle() returns trigger language plpgsql as $$
    begin
      perform pg_sleep(0.02);
      return old;
    end
    $$;
    create or replace trigger dawdle before delete on graphile_worker._private_jobs
      for each row when (old.locked_by is not null) execute function public.dawdle()
"""


def adding(*names: str, of_queue: str | None = None) -> Callable[[Client], Awaitable[None]]:
    """Return what adds jobs of these tasks, in this order."""

    async def add(client: Client) -> None:
        await client.add_raw_jobs([(name, None, JobSpec(queue_name=of_queue)) for name in names])

    return add


async def add_slow_rows(client: Client) -> None:
    await client.database.execute(DAWDLE)
    await client.add_raw_jobs([("instant", None)] * 24)


async def add_an_unwritable_one(client: Client) -> None:
    await client.database.execute(REFUSE_ALL)
    await client.add_raw_jobs(
        [("instant", None, JobSpec(priority=UNWRITABLE_PRIORITY, queue_name="a"))]
        + [("instant", None, JobSpec(queue_name=f"b{number}")) for number in range(2)]
        + [("instant", None), ("failing", None)]
    )


async def drop_schema(client: Client) -> None:
    await client.database.execute("drop schema graphile_worker cascade")


async def add_to_a_full_recorder(client: Client) -> None:
    await client.add_raw_jobs([("barrier", None, JobSpec(priority=1))] * 4)
    await client.add_raw_jobs([("instant", None)] * 24)
    await client.add_raw_jobs([("barrier", None, JobSpec(priority=2))] * 4)


async def lock_a_job_until_the_recorder_is_full(trial: Trial) -> None:
    """Lock one of those that run, until it holds up the outcomes of so many others that slots wait."""
    journal, worker = trial.journal, trial.worker
    await journal.wait_until(lambda: bool(journal.running))
    with contextlib.suppress(ConnectionLost):  # one of the endings cuts off everybody
        async with trial.observer.transaction() as connection:
            await connection.execute(LOCK_JOBS, [*journal.running][:1])
            with trio.move_on_after(1.0):
                while True:  # the recorder tells nobody
                    if worker.statistics().unrecorded > MOST_UNWRITTEN:
                        break
                    await trio.sleep(0.005)


def started(journal: Journal) -> bool:
    return journal.is_started


def all_failed(count: int) -> Callable[[Journal], bool]:
    return lambda journal: len(journal.raised) >= count


EXITS_IN_THREADS = [f"{name}_in_thread" for name in EXITS]
EXITS_BESIDE_OTHERS = [f"{name}_beside_others" for name in EXITS]
ONE_SESSION, TWO_SESSIONS = DatabaseOptions(pool_size=1), DatabaseOptions(pool_size=2)

HANDLERS = {
    "exits": Scenario(concurrency=3, add=adding(*EXITS, "brief"), enough=ended(7)),
    "exits_of_queues": Scenario(concurrency=3, add=adding(*EXITS, "brief", of_queue="a"), enough=ended(7)),
    "exits_in_threads": Scenario(concurrency=3, add=adding(*EXITS_IN_THREADS, "brief"), enough=ended(7)),
    "exits_beside_others": Scenario(
        concurrency=6, add=adding(*EXITS_BESIDE_OTHERS, "brief"), enough=ended(7)
    ),
    "exits_in_processes": Scenario(concurrency=2, add=adding(*DOOMED, "brief"), enough=ended(1), once=True),
    "strays": Scenario(
        concurrency=2, add=adding("strays", "asking", "late_strays", "brief"), enough=ended(4)
    ),
    "pool_closes": Scenario(concurrency=2, add=adding("pool_closes", "brief"), enough=ended(2)),
    "held_sessions": Scenario(
        concurrency=4,
        add=adding("holding", "asking", "asking", "holding"),
        enough=lambda journal: len(journal.running) >= 2,
        database=TWO_SESSIONS,
    ),
    "given_up_connects": Scenario(
        concurrency=3, add=adding(*["hasty"] * 4, "asking"), enough=ended(5), database=TWO_SESSIONS
    ),
    "open_transactions": Scenario(
        concurrency=1,
        add=adding("beginning", "adding", "beginning", "adding"),
        enough=ended(6),
        database=ONE_SESSION,
    ),
    "stubborn": Scenario(
        concurrency=3,
        add=adding("stubborn", "thorough", "brief"),
        enough=lambda journal: len(journal.running) == 2 and len(journal.finished) == 1,
    ),
    "full_recorder": Scenario(
        concurrency=4,
        add=add_to_a_full_recorder,
        enough=ended(32),
        prefetch=40,
        most_unwritten=MOST_UNWRITTEN,
        during=lock_a_job_until_the_recorder_is_full,
    ),
}

TRIGGERS = {
    "slow_rows": Scenario(
        concurrency=8,
        add=add_slow_rows,
        enough=ended(24),
        prefetch=24,
        database=DatabaseOptions(statement_timeout=0.25),
    ),
    "unwritable_row": Scenario(
        concurrency=5, add=add_an_unwritable_one, enough=ended(5), unwritable=UNWRITABLE_PRIORITY
    ),
}

_START = Scenario(concurrency=2, add=add_nothing, enough=started)
STARTS = {
    "installing": attrs.evolve(_START, add=drop_schema, installs=True),
    "installing_once": attrs.evolve(_START, add=drop_schema, installs=True, once=True),
    "installing_with_crontab": attrs.evolve(
        _START, add=drop_schema, installs=True, crontab=CRONTAB, enough=ended(2)
    ),
    "start_behind_lock": attrs.evolve(_START, add=adding("brief"), locked=LOCKS["table_of_tasks"]),
    "start_of_crontab_behind_lock": attrs.evolve(
        _START,
        add=note_what_the_crontab_has_missed,
        locked=LOCKS["table_of_crontabs"],
        crontab=CRONTAB,
        enough=ended(7),
    ),
    "once_behind_lock": attrs.evolve(_START, add=adding("brief"), locked=LOCKS["table_of_jobs"], once=True),
}
