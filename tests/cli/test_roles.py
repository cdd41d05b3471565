"""`trio-graphile roles`: what it prints. What that does is in `tests/environments/test_roles.py`."""

from __future__ import annotations

import json
import shutil
from urllib.parse import urlsplit

import pytest
import trio

from tests.cli.program import PATIENCE, Program
from trio_graphile import Database


async def test_it_prints_a_script_without_a_database(program: Program) -> None:
    ended = await program.run("roles", "--schema", "queue", "--worker", "it's")
    assert (ended.exit_code, ended.errors) == (0, "")
    assert 'create schema "queue" authorization "queue_migrator";' in ended.output
    assert 'on all tables in schema "queue" to "it\'s";' in ended.output
    assert "array['queue_migrator', 'it''s', 'queue_enqueuer', 'queue_observer']" in ended.output
    assert ended.output.endswith("\ncommit;\n")
    as_json = await program.run("roles", "--schema", "queue", "--worker", "it's", "--json")
    assert json.loads(as_json.output) == {"sql": ended.output}


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (("--worker", "same", "--observer", "same"), "each role needs a name of its own"),
        (("--worker", "new\nline"), "--worker: a name cannot contain control characters"),
        (("--schema", "new\nline"), "schema: a name cannot contain control characters"),
        (("--migrator", "m" * 51), "--migrator: the name is longer than 50 bytes"),
    ],
)
async def test_names_that_cannot_be_are_refused(program: Program, flags: tuple[str, ...], error: str) -> None:
    ended = await program.run("roles", *flags)
    assert (error in ended.errors, ended.exit_code) == (True, 2)


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")
async def test_psql_understands_it(program: Program, database: Database, database_url: str) -> None:
    ended = await program.run("roles", "--migrator", urlsplit(database_url).username or "postgres")
    script = ended.output.replace("\ncommit;\n", "\nrollback;\n")
    with trio.fail_after(PATIENCE):
        psql = await trio.run_process(
            ["psql", "--set", "ON_ERROR_STOP=1", "--no-psqlrc", "--dbname", database_url],
            stdin=script.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    assert (psql.returncode, psql.stderr) == (0, b"")
