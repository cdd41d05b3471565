"""The pytest plugin, in runs of pytest of their own: under pytest-trio, under anyio, with xdist."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import attrs
import pytest
import trio

from tests.support.namespaces import with_namespaces
from tests.support.plugin_path import plugin_path
from trio_graphile import open_database
from trio_graphile.testing import TemplateDatabases

pytestmark = pytest.mark.timeout(240)  # each starts one pytest or several

RUNNERS = {
    "pytest-trio": ("trio", ["-p", "no:anyio"]),
    "pytest-trio in its mode": (None, ["-p", "no:anyio", "-o", "trio_mode=true"]),
    "pytest-trio and xdist": ("trio", ["-p", "no:anyio", "-n", "2"]),
    "anyio and xdist": ("anyio", ["-p", "no:pytest_trio", "-p", "no:trio", "-n", "2"]),
}
"""How async tests are marked, and what pytest is called with."""

CONFTEST = """
    import pytest
    from trio_graphile import open_database

    @pytest.fixture
    def anyio_backend():
        return "trio"

    async def pytest_trio_graphile_prepare(url):
        async with open_database(url) as database:
            await database.execute("create table users as select 'ada'::text as name")
"""
TESTS = """
    import pytest
    from trio_graphile import TaskRegistry
    from trio_graphile.testing import added_jobs, run_until_empty

    pytestmark = MARK
    tasks = TaskRegistry()

    @tasks.task("greet")
    async def greet(name: str) -> None: ...

    @pytest.mark.parametrize("number", range(4))
    async def test_a_job(trio_graphile_client, trio_graphile_database, number):
        assert await trio_graphile_database.fetch_value("select name from users") == "ada"
        await trio_graphile_client.add_job(greet, "ada")
        assert [each.payload for each in await added_jobs(trio_graphile_database, greet)] == ["ada"]
        [run] = await run_until_empty(trio_graphile_database, tasks)
        assert run.outcome == "completed"
"""


@attrs.frozen
class Sandbox:
    """A folder with tests, in which pytest is run."""

    folder: Path
    url: str | None

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(text))

    async def pytest(self, *arguments: str, **variables: str) -> str:
        """Run it; return what it says. Raises if a test failed."""
        run = await self.try_pytest(*arguments, **variables)
        assert run.returncode == 0, run.stdout.decode()
        return run.stdout.decode()

    async def try_pytest(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
        environment |= {"PYTHONPATH": plugin_path(self.folder), "PYTEST_ADDOPTS": ""} | variables
        if self.url is not None:
            arguments = (*arguments, f"--trio-graphile-url={self.url}")
        with trio.fail_after(200):
            return await trio.run_process(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
                cwd=self.folder,
                env=environment,
                check=False,
                capture_stdout=True,
                stderr=subprocess.STDOUT,
            )


@pytest.fixture
def sandbox(tmp_path: Path, databases: TemplateDatabases) -> Sandbox:
    return Sandbox(tmp_path, databases.server_url)


@pytest.mark.parametrize("runner", RUNNERS)
async def test_each_test_has_a_database_of_its_own(sandbox: Sandbox, runner: str) -> None:
    mark, arguments = RUNNERS[runner]
    sandbox.write("conftest.py", CONFTEST)
    sandbox.write("test_jobs.py", TESTS.replace("MARK", f"pytest.mark.{mark}" if mark else "[]"))
    assert "4 passed" in await sandbox.pytest(*arguments)


@with_namespaces  # else root's server belongs to nobody, who may not enter the test's folder
async def test_without_a_url_a_server_is_embedded(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, None)
    sandbox.write("conftest.py", CONFTEST)
    sandbox.write("test_jobs.py", TESTS.replace("MARK", "pytest.mark.trio"))
    assert "4 passed" in await sandbox.pytest()


async def test_the_url_may_stand_in_the_environment(tmp_path: Path, databases: TemplateDatabases) -> None:
    sandbox = Sandbox(tmp_path, None)
    sandbox.write(
        "test_url.py",
        """
        def test_url(trio_graphile_server):
            print("it is", trio_graphile_server.server_url)
        """,
    )
    said = await sandbox.pytest("-s", DATABASE_URL=databases.server_url)
    assert f"it is {databases.server_url}" in said


async def test_nothing_is_left_on_a_server_of_others(sandbox: Sandbox, databases: TemplateDatabases) -> None:
    sandbox.write("conftest.py", CONFTEST)
    sandbox.write("test_jobs.py", TESTS.replace("MARK", "pytest.mark.trio"))
    sandbox.write(
        "test_names.py",
        """
        import pytest
        from trio_graphile import open_database

        @pytest.mark.trio
        async def test_names(trio_graphile_database, record_property):
            rows = await trio_graphile_database.fetch("select datname from pg_database")
            open("names", "w").write(",".join(row["datname"] for row in rows))
        """,
    )
    await sandbox.pytest()
    during = set((sandbox.folder / "names").read_text().split(","))
    async with open_database(databases.server_url) as database:
        after = {row["datname"] for row in await database.fetch("select datname from pg_database")}
    assert any(name.startswith("trio_graphile_template") for name in during - after)
    assert any(name.startswith("trio_graphile_test") for name in during - after)


async def test_a_plain_function_may_prepare_the_template_and_run_a_loop(sandbox: Sandbox) -> None:
    sandbox.write(
        "conftest.py",
        """
    import asyncio
    import asyncpg

    def pytest_trio_graphile_prepare(url):
        asyncio.run(migrate(url))

    async def migrate(url):
        connection = await asyncpg.connect(url)
        await connection.execute("create table users as select 'ada'::text as name")
        await connection.close()
    """,
    )
    sandbox.write("test_jobs.py", TESTS.replace("MARK", "pytest.mark.trio"))
    assert "4 passed" in await sandbox.pytest()


async def test_the_schema_may_have_another_name(sandbox: Sandbox) -> None:
    sandbox.write(
        "test_schema.py",
        """
    import pytest
    from trio_graphile import DatabaseOptions

    @pytest.fixture(scope="session")
    def trio_graphile_database_options():
        return DatabaseOptions(schema="queue")

    @pytest.mark.trio
    async def test_schema(trio_graphile_client, trio_graphile_database):
        await trio_graphile_client.add_raw_job("greet")
        assert await trio_graphile_database.fetch_value("select count(*) from queue.jobs") == 1
    """,
    )
    assert "1 passed" in await sandbox.pytest()


async def test_a_run_that_does_not_use_it_imports_nothing_but_the_plugin(sandbox: Sandbox) -> None:
    sandbox.write(
        "test_modules.py",
        """
    import sys

    def test_modules():
        ours = {name for name in sys.modules if name.partition(".")[0] == "trio_graphile"}
        assert ours == {"trio_graphile", "trio_graphile.testing", "trio_graphile.testing.pytest_plugin"}
        assert not {"asyncpg", "cattrs", "trio_asyncio", "orjson"} & sys.modules.keys()
    """,
    )
    assert "1 passed" in await sandbox.pytest()


async def test_the_plugin_can_be_left_out(sandbox: Sandbox) -> None:
    sandbox.write("test_nothing.py", "def test_nothing(trio_graphile_server): ...")
    run = await Sandbox(sandbox.folder, None).try_pytest("-p", "no:trio_graphile")
    assert b"fixture 'trio_graphile_server' not found" in run.stdout
