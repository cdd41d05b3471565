"""The fixtures of workers, for tests of what interceptors make of jobs."""

from __future__ import annotations

from tests.support.fixtures import client, handlers, table

__all__ = ["client", "handlers", "table"]
