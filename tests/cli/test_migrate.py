"""`trio-graphile migrate`, on a real server."""

from __future__ import annotations

import json

from tests.cli.conftest import with_password
from tests.cli.program import Program
from trio_graphile import Client, Database, DatabaseOptions, open_database


async def test_it_installs_once_and_then_has_nothing_to_do(program: Program, empty_database_url: str) -> None:
    shop = program.with_environment(DATABASE_URL=with_password(empty_database_url))
    first = await shop.run("migrate")
    assert (first.exit_code, first.output, first.errors) == (0, "schema graphile_worker: installed\n", "")
    async with open_database(empty_database_url) as database:
        await Client(database).add_raw_job("greet", "ada")
    second = await shop.run("migrate", "--verbose")
    assert (second.exit_code, second.output) == (0, "schema graphile_worker: up to date already\n")
    assert "sesame" not in second.errors


async def test_it_says_what_an_older_schema_lacked(shop: Program, database: Database) -> None:
    await database.execute("""
        delete from graphile_worker.migrations where id > 18;
        drop table graphile_worker.trio_graphile_migrations
    """)
    ended = await shop.run("migrate")
    assert ended.output.startswith("schema graphile_worker: brought up to date (revisions 19, 20; own ")
    assert ended.exit_code == 0


async def test_the_schema_has_any_name(program: Program, empty_database_url: str) -> None:
    arguments = ("migrate", "--database-url", empty_database_url, "--schema", 'It\'s "ours"')
    assert (await program.run(*arguments)).output == 'schema It\'s "ours": installed\n'
    async with open_database(empty_database_url, DatabaseOptions(schema='It\'s "ours"')) as database:
        await Client(database).add_raw_job("greet", "ada")


async def test_a_schema_that_cannot_be_taken_over_fails_with_the_way_out(
    shop: Program, database: Database
) -> None:
    await database.execute("delete from graphile_worker.migrations where id > 10")
    ended = await shop.run("migrate")
    assert "the schema is at revision 10" in ended.error
    assert "npx graphile-worker --schema-only" in ended.error
    assert ended.exit_code == 1


async def test_a_server_that_is_down_is_named_without_its_password(program: Program) -> None:
    ended = await program.run("migrate", "--database-url", "postgresql://app:sesame@127.0.0.1:1/shop")
    assert "cannot reach PostgreSQL at postgresql://app@127.0.0.1:1/shop" in ended.error
    assert "sesame" not in ended.error
    assert ended.exit_code == 1


async def test_a_dry_run_says_what_would_happen_and_does_nothing(
    program: Program, empty_database_url: str
) -> None:
    shop = program.with_environment(DATABASE_URL=with_password(empty_database_url))
    ended = await shop.run("migrate", "--dry-run")
    assert (ended.exit_code, ended.errors) == (0, "")
    first, *names = ended.output.splitlines()
    assert first == (
        f"schema graphile_worker: would be installed, by {len(names)} migrations in one transaction:"
    )
    assert names[0] == "    000001_foundation"
    foreseen = json.loads((await shop.run("migrate", "--dry-run", "--json")).output)
    assert foreseen["migrated"] is False
    done = json.loads((await shop.run("migrate", "--json")).output)
    assert (done["migrated"], done["revisions"]) == (True, foreseen["revisions"])
    assert len(done["migrations"]) == len(names) == len(foreseen["migrations"])
    assert (await shop.run("migrate", "--dry-run")).output == "schema graphile_worker: up to date already\n"


async def test_a_dry_run_says_what_an_older_schema_lacks(shop: Program, database: Database) -> None:
    await database.execute("""
        delete from graphile_worker.migrations where id > 18;
        drop table graphile_worker.trio_graphile_migrations
    """)
    ended = await shop.run("migrate", "--dry-run")
    assert (
        "is at revision 18; would be brought up to date in one transaction: revisions 19, 20" in ended.output
    )
    assert "000001_foundation" not in ended.output
