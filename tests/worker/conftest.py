"""The fixtures of tests of a whole worker."""

from __future__ import annotations

from tests.support.fixtures import client, handlers, table

__all__ = ["client", "handlers", "table"]
