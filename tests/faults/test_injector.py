"""The fault injector itself: what it says that became of a statement is what did."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
import trio

from tests.faults.injector import Fate, Injector, open_injector
from trio_graphile import ConnectionLost, Database, DatabaseOptions, StatementFailed, open_database

INSERT = "insert into public.notes (id) values (1)"
COUNT = "select count(*) from public.notes"


@pytest.fixture
async def injector(database: Database, database_url: str) -> AsyncIterator[Injector]:
    await database.execute("create table public.notes (id integer)")
    async with open_injector(database_url, "a seed") as injector:
        yield injector


async def insert(injector: Injector, fate: Fate) -> None:
    """Have a statement meet its fate: one without arguments, and one with some."""
    options = DatabaseOptions(statement_timeout=0.5)
    async with open_database(injector.url, options) as through:
        assert await through.fetch_value("select $1::integer", 1) == 1
        injector.next_fate = fate
        await through.execute(INSERT)


async def test_a_statement_that_passes_takes_effect(injector: Injector, database: Database) -> None:
    await insert(injector, Fate.PASS)
    assert await database.fetch_value(COUNT) == 1


async def test_a_statement_that_fails_has_no_effect(injector: Injector, database: Database) -> None:
    with pytest.raises(StatementFailed) as failed:
        await insert(injector, Fate.FAIL)
    assert failed.value.transient
    assert await database.fetch_value(COUNT) == 0


async def test_one_that_fails_in_a_transaction_fails_for_the_server_too(injector: Injector) -> None:
    async with open_database(injector.url) as through, through.connection() as connection:
        await connection.execute("begin")
        injector.next_fate = Fate.FAIL
        with pytest.raises(StatementFailed):
            await connection.fetch("select $1::integer", 1)
        with pytest.raises(StatementFailed, match="transaction is aborted"):
            await connection.fetch("select 1")


async def test_a_statement_that_is_cut_off_before_has_no_effect(
    injector: Injector, database: Database
) -> None:
    with pytest.raises(ConnectionLost):
        await insert(injector, Fate.CUT)
    assert await database.fetch_value(COUNT) == 0


async def test_a_statement_that_is_cut_off_after_has_its_effect(
    injector: Injector, database: Database
) -> None:
    with pytest.raises(ConnectionLost):
        await insert(injector, Fate.CUT_AFTER)
    assert await database.fetch_value(COUNT) == 1


@pytest.mark.parametrize("fate", [Fate.HANG, Fate.HANG_AFTER])
async def test_a_statement_that_hangs_takes_effect_whoever_waits_for_it(
    fate: Fate, injector: Injector, database: Database
) -> None:
    injector.hang = 60.0
    with pytest.raises(ConnectionLost):
        await insert(injector, fate)
    injector.calm()
    with trio.fail_after(20):
        while True:
            if await database.fetch_value(COUNT) == 1:
                return
            await trio.lowlevel.checkpoint()


async def test_the_same_seed_has_the_same_fates(injector: Injector) -> None:
    injector.rate = 0.5
    first, second = ([injector.choose(draw) for _ in range(100)] for draw in _twins("1"))
    assert first == second
    assert {*first} == {*Fate}


def _twins(seed: str) -> tuple[random.Random, random.Random]:
    return random.Random(seed), random.Random(seed)
