from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop import rust_worker
from tests.interop.graphile_worker import VERSIONS, GraphileWorker, programs_for, reason_to_skip


@pytest.fixture(scope="session", params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Iterator[GraphileWorker]:
    """Lend graphile-worker for Node, one version after the other."""
    if reason := reason_to_skip():
        pytest.skip(reason)
    with programs_for(request.param) as programs:
        yield programs


@pytest.fixture(scope="session")
def rust() -> rust_worker.RustWorker:
    """Lend graphile_worker for Rust."""
    if reason := rust_worker.reason_to_skip():
        pytest.skip(reason)
    return rust_worker.built()
