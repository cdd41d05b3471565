from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conformance.programs import KINDS, Programs, open_programs, reason_to_skip
from tests.conformance.stage import Stage, open_stage


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    with open_programs() as programs:
        yield programs


@pytest.fixture(autouse=True)
def _skipped_where_a_kind_is_missing(request: pytest.FixtureRequest) -> None:
    """Skip what needs a kind of worker that cannot be had here: any parameter may name one."""
    callspec = getattr(request.node, "callspec", None)
    for value in callspec.params.values() if callspec is not None else ():
        for kind in value if isinstance(value, tuple) else (value,):
            if isinstance(kind, str) and kind in KINDS and (reason := reason_to_skip(kind)):
                pytest.skip(reason)


@pytest.fixture
async def stage(programs: Programs, database_url: str) -> AsyncIterator[Stage]:
    """Lend a database with our schema."""
    async with open_stage(programs, database_url) as stage:
        yield stage


@pytest.fixture
async def empty_stage(programs: Programs, empty_database_url: str) -> AsyncIterator[Stage]:
    """Lend a database with nothing in it."""
    async with open_stage(programs, empty_database_url) as stage:
        yield stage
