from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.graphile_worker import VERSIONS, GraphileWorker, programs_for, reason_to_skip


@pytest.fixture(scope="session", params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Iterator[GraphileWorker]:
    """Lend graphile-worker for Node, one version after the other."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    with programs_for(request.param) as programs:
        yield programs
