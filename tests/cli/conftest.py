from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.fork_server import ForkServer, open_fork_server
from tests.cli.program import Program


@pytest.fixture(autouse=True, scope="session")
def heed_ctrl_c() -> None:
    """Have programs begin with it: a shell that runs the tests in the background has it ignored, for good."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with open_fork_server(Program(tmp_path_factory.mktemp("forks")).whole_environment()) as forks:
        yield forks


@pytest.fixture
def program(tmp_path: Path, forks: ForkServer) -> Program:
    """The program in a folder with the module `shop`, without a database."""
    shutil.copy(Path(__file__).with_name("shop.py"), tmp_path)
    return Program(tmp_path, forks=forks)


@pytest.fixture
def shop(program: Program, database_url: str) -> Program:
    """The same with a database of this test's own, and a password that nobody asks for or may see."""
    return program.with_environment(DATABASE_URL=with_password(database_url))


def with_password(url: str) -> str:
    return url.replace("@", ":sesame@", 1)
