"""Databases for tests: each is fresh, and gone afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import trio

from trio_graphile._database.database import Database, open_database
from trio_graphile.testing import TemplateDatabases

NAMES = "select datname::text from pg_database"


@pytest.fixture
async def server(databases: TemplateDatabases) -> AsyncIterator[Database]:
    async with open_database(databases.server_url) as database:
        yield database


async def names(server: Database) -> set[str]:
    return {row["datname"] for row in await server.fetch(NAMES)}


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


async def test_an_empty_database_has_nothing_of_ours(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        assert await database.fetch_value("select to_regnamespace('graphile_worker')::text") is None


async def test_a_clone_has_the_schema_of_the_queue(database: Database) -> None:
    assert await database.fetch_value("select to_regproc('graphile_worker.add_job')::text") is not None


async def test_clones_know_nothing_of_each_other(databases: TemplateDatabases) -> None:
    async with databases.clone() as one, databases.clone() as other:
        async with open_database(one) as database:
            await database.execute("create table only_here (id int)")
        async with open_database(other) as database:
            assert await database.fetch_value("select to_regclass('only_here')::text") is None


async def test_a_database_is_dropped_while_somebody_uses_it(
    databases: TemplateDatabases, server: Database
) -> None:
    async with databases.empty() as url:
        assert name_of(url) in await names(server)
        left_open = open_database(url)
        database = await left_open.__aenter__()
    assert name_of(url) not in await names(server)
    assert not await left_open.__aexit__(None, None, None)
    assert database.schema == "graphile_worker"


async def test_a_database_is_dropped_when_its_test_fails(
    databases: TemplateDatabases, server: Database
) -> None:
    url = ""
    with pytest.raises(ZeroDivisionError):
        async with databases.empty() as url:
            raise ZeroDivisionError
    assert name_of(url) not in await names(server)


async def test_every_clone_has_what_was_prepared_once(databases: TemplateDatabases, server: Database) -> None:
    prepared: list[str] = []

    async def prepare(url: str) -> None:
        prepared.append(url)
        async with open_database(url) as database:
            await database.execute("create table app_users as select 'ada'::text as name")

    own = TemplateDatabases(databases.server_url, prepare=prepare)
    for _ in range(2):
        async with own.clone() as url, open_database(url) as database:
            assert await database.fetch_value("select name from app_users") == "ada"
    await own.aclose()
    assert [name_of(url) for url in prepared if name_of(url) in await names(server)] == []
    assert len(prepared) == 1


async def test_a_template_that_cannot_be_prepared_is_dropped(
    databases: TemplateDatabases, server: Database
) -> None:
    prepared: list[str] = []

    async def prepare(url: str) -> None:
        await trio.lowlevel.checkpoint()
        prepared.append(url)
        raise ZeroDivisionError

    own = TemplateDatabases(databases.server_url, prepare=prepare)
    with pytest.raises(ZeroDivisionError):
        async with own.clone():
            pass
    assert name_of(prepared[0]) not in await names(server)
