"""An embedded server for code that is not async."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.support.namespaces import with_namespaces
from trio_graphile._database.database import open_database
from trio_graphile.embedded import PostgresNotFound, PostgresServer
from trio_graphile.testing import embedded_postgres_in_thread


@with_namespaces  # else root's server belongs to nobody, who may not enter the test's folder
def test_a_thread_holds_a_server_for_any_number_of_runs(tmp_path: Path) -> None:
    async def ask(server: PostgresServer) -> object:
        async with open_database(server.url) as database:
            return await database.fetch_value("select 42")

    with embedded_postgres_in_thread(temporary_in=tmp_path) as server:
        assert trio.run(ask, server) == 42
        assert trio.run(ask, server) == 42
        process_id = server.process_id
    assert process_id is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)
    assert list(tmp_path.iterdir()) == []


def test_why_a_server_in_a_thread_does_not_start_is_raised_where_it_was_wanted(tmp_path: Path) -> None:
    with pytest.raises(PostgresNotFound), embedded_postgres_in_thread(bin_dir=tmp_path):
        pass
