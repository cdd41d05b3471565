"""The fixtures of workers, for tests of what is told of them."""

from __future__ import annotations

from tests.support.fixtures import client, handlers, table

__all__ = ["client", "handlers", "table"]
