"""Search paths: nobody's functions are called in the place of PostgreSQL's own."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from trio_graphile import Client, Database, DatabaseRefused, open_database

EVIL = """
    create schema evil;
    create function evil.now() returns timestamptz language sql as $$ select pg_catalog.now() $$;
    create function evil.harmless() returns integer language sql as $$ select 1 $$;
"""
EVIL_OPERATOR = """
    create schema evil;
    create function evil.equal(integer, integer) returns boolean language sql as $$ select true $$;
    create operator evil.= (leftarg = integer, rightarg = integer, function = evil.equal);
"""
OVERLOAD = """
    create schema evil;
    create function evil.round(float8, integer) returns float8 language sql as $$ select $1 $$;
"""


@pytest.fixture
def name(database_url: str) -> str:
    return urlsplit(database_url).path.removeprefix("/")


async def set_path(database: Database, name: str, path: str) -> None:
    await database.execute(f"alter database {name} set search_path = {path}")


@pytest.mark.parametrize(("sql", "found"), [(EVIL, "evil.now"), (EVIL_OPERATOR, "evil.=")])
async def test_a_path_with_other_functions_before_the_servers_own_is_refused(
    sql: str, found: str, database: Database, database_url: str, name: str
) -> None:
    await database.execute(sql)
    await set_path(database, name, "evil, pg_catalog")
    with pytest.raises(DatabaseRefused, match="before pg_catalog") as caught:
        async with open_database(database_url):
            pytest.fail("evil functions would be called")
    assert found in str(caught.value)
    assert "evil.harmless" not in str(caught.value)


@pytest.mark.parametrize(
    ("sql", "path"),
    [(EVIL, "evil, public"), (EVIL, "pg_catalog, evil"), (OVERLOAD, "evil, public, pg_catalog")],
)
async def test_a_path_that_hides_nothing_of_the_servers_is_fine(
    sql: str, path: str, database: Database, database_url: str, name: str
) -> None:
    await database.execute(sql)
    await set_path(database, name, path)
    async with open_database(database_url) as other:
        assert (await Client(other).add_raw_job("a")).id == 1
