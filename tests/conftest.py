"""A real PostgreSQL for every test that wants one: a server per run, a database per test.

`DATABASE_URL` names a server to use instead of the embedded one, by a user who may create databases there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import attrs
import hypothesis
import pytest
import trio

from tests.support.shares import Share, others_share
from tests.transports import Doors, open_doors
from trio_graphile._database.connection import Connection
from trio_graphile._database.database import Database, open_database
from trio_graphile._database.driver.shortcuts import FOR_SPEED, turn_off
from trio_graphile.embedded import PostgresServer
from trio_graphile.testing import TemplateDatabases, embedded_postgres_in_thread
from trio_graphile.testing._server import folder_in_memory


@attrs.frozen
class ForeignServer:
    """The server of `DATABASE_URL`."""

    url: str = attrs.field(repr=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run the tests marked exhaustive, too")
    parser.addoption(
        "--without-shortcuts",
        action="store_true",
        help="take the plain way through the driver, which is slower",
    )
    parser.addoption("--seconds", type=float, default=8.0, help="how long to have everything go wrong")
    parser.addoption("--seed", type=int, default=1, help="of what goes wrong at random")
    parser.addoption("--stops", type=int, default=24, help="how many workers to end in storms")
    parser.addoption(
        "--share",
        type=Share.parse,
        default=Share(1, 1),
        metavar="NUMBER/OF",
        help="of what is sampled try only this share, such as 2/3: other runs try the others",
    )
    parser.addoption(
        "--points", type=int, help="of each scenario and ending try about so many points (default: a few)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--without-shortcuts"):
        turn_off(*FOR_SPEED)
    hypothesis.settings.register_profile("timeless", parent=hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("timeless")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell has it for its background jobs. The programs that we interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)


_DEALT = (
    "admin",
    "cli",
    "conformance",
    "database",
    "environments",
    "faults",
    "interop",
    "test_embedded.py",
    "test_shares.py",
    "testing/test_pytest_plugin.py",
)
DEALT = tuple(Path(__file__).parent / name for name in _DEALT)
"""Each of the tests there runs on one interpreter, and each interpreter has a share: they take minutes, and
are about commands, SQL, servers, networks and programs. What depends on Python is marked `everywhere`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        is_everywhere = item.get_closest_marker("everywhere") is not None
        if not is_everywhere and any(item.path.is_relative_to(place) for place in DEALT):
            item.add_marker(pytest.mark.dealt)
    if not config.getoption("--exhaustive"):
        for item in items:
            if item.get_closest_marker("exhaustive") is not None:
                item.add_marker(pytest.mark.skip(reason="needs --exhaustive"))
    elsewhere = set(others_share(Share.of_run(config), items))
    config.hook.pytest_deselected(items=[item for item in items if item in elsewhere])
    items[:] = [item for item in items if item not in elsewhere]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Raise what the test raised: pytest-trio wraps it in the groups of its own nurseries.

    Of a skip or an expected failure it makes a new one without the reason.
    """
    try:
        return (yield)
    except (BaseExceptionGroup, pytest.skip.Exception, pytest.xfail.Exception) as raised:
        group = raised if isinstance(raised, BaseExceptionGroup) else raised.__context__
        if pyfuncitem.get_closest_marker("trio") is None or not isinstance(group, BaseExceptionGroup):
            raise
        error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    raise error  # out here, so that its own cause and context stay as they are


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer | ForeignServer]:
    """Lend the server of this run (of this process, under xdist). It is shared: kill one of your own."""
    if url := os.environ.get("DATABASE_URL"):
        yield ForeignServer(url)
        return
    with embedded_postgres_in_thread(temporary_in=folder_in_memory()) as server:
        yield server


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer | ForeignServer) -> Iterator[TemplateDatabases]:
    databases = TemplateDatabases(postgres.url)
    yield databases
    if isinstance(postgres, ForeignServer):
        trio.run(databases.aclose)


@pytest.fixture(scope="session")
def doors(postgres: PostgresServer | ForeignServer) -> Iterator[Doors]:
    """Lend ways to the server of this run over TCP, with TLS and without."""
    with open_doors(postgres.url) as doors:
        yield doors


@pytest.fixture
async def database_url(databases: TemplateDatabases) -> AsyncIterator[str]:
    """Lend a database of this test's own, with our schema."""
    async with databases.clone() as url:
        yield url


@pytest.fixture
async def empty_database_url(databases: TemplateDatabases) -> AsyncIterator[str]:
    """Lend a database of this test's own, with nothing in it."""
    async with databases.empty() as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        yield database


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.connection() as connection:
        yield connection


@pytest.fixture
def hangup_counts() -> Iterator[None]:
    """Have the programs that a test starts heed SIGHUP, though this run may be one of `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.default_int_handler)  # what is handled is not inherited
    yield
    signal.signal(signal.SIGHUP, before)
