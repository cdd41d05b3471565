"""What a handler writes in one transaction with the end of its job happens once, whatever dies meanwhile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest
import trio

from tests.faults import transfers
from tests.faults.conftest import Figures
from tests.faults.fleet import Fleet
from tests.faults.load import check_nothing_locked, drain
from tests.faults.transfers import Transfer
from trio_graphile import Client, Database
from trio_graphile._database.session import persist

FLEET = 2
ACCOUNTS = 20
OPENING_BALANCE = 1000
TABLES = f"""
    create table public.accounts (id integer primary key, balance integer not null);
    create table public.transfers (job_id bigint not null);
    insert into public.accounts (id, balance)
    select number, {OPENING_BALANCE}
    from generate_series(1, {ACCOUNTS}) as number
"""  # `transfers` would take a job twice: so it shows if one ran twice
CUT = """
    with chosen as (
      select pid
      from pg_stat_activity
      where datname = current_database()
        and application_name like 'trio_graphile%'
        and pid <> pg_backend_pid()
      order by state = 'active' desc, random()
      limit 2
    )
    select count(pg_terminate_backend(chosen.pid))
    from chosen
"""


def draw_transfers(count: int) -> list[Transfer]:
    random = Random(1)
    return [
        Transfer(source=source, target=target, amount=random.randint(1, 50))
        for source, target in (random.sample(range(1, ACCOUNTS + 1), 2) for _ in range(count))
    ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("jobs", "kills", "cuts"), [(300, 2, 12), pytest.param(1000, 15, 100, marks=pytest.mark.exhaustive)]
)
async def test_every_transfer_is_made_once_although_workers_die_and_connections_are_cut(
    database: Database, database_url: str, figures: Figures, *, jobs: int, kills: int, cuts: int
) -> None:
    await database.execute(TABLES)
    fleet = Fleet(database_url, Path(transfers.__file__))
    expected = Counter(dict.fromkeys(range(1, ACCOUNTS + 1), OPENING_BALANCE))
    drawn = draw_transfers(jobs)
    for transfer in drawn:
        expected[transfer.source] -= transfer.amount
        expected[transfer.target] += transfer.amount
    await Client(database).add_jobs([(transfers.transfer, transfer) for transfer in drawn])
    async with trio.open_nursery() as nursery:
        alive = [await fleet.start(nursery) for _ in range(FLEET)]
        for number in range(cuts):
            await wait_for_more(fleet, jobs)
            await persist(lambda: database.fetch(CUT), what="cutting connections")
            if number % (cuts // kills) == 0:
                fleet.kill(alive.pop(0))
                alive.append(await fleet.start(nursery))
        await drain(database, patience=60.0)
        for member in alive:
            await fleet.stop(member)
    balances = {row["id"]: row["balance"] for row in await database.fetch("select * from public.accounts")}
    made = Counter(row["job_id"] for row in await database.fetch("select job_id from public.transfers"))
    assert len(made) == jobs, "a transfer was not made"
    assert {*made.values()} == {1}, "a transfer was made twice"
    assert balances == expected
    assert sum(balances.values()) == ACCOUNTS * OPENING_BALANCE
    runs = sum(len(member.runs) for member in fleet.members)
    figures.note("transfers, each made once", jobs)
    figures.note("runs that it took", runs)
    figures.note("connections cut", 2 * cuts)
    figures.note("workers killed", sum(member.lost_at is not None for member in fleet.members))
    await check_nothing_locked(database)


async def wait_for_more(fleet: Fleet, jobs: int) -> None:
    """Wait until some more transfers were made, or nearly all are."""
    target = min(fleet.returned + 5, jobs - 20)
    await fleet.wait_until(lambda: fleet.returned >= target)
