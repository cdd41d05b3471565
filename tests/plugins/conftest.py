"""The fixtures of workers, for plugins that watch them."""

from __future__ import annotations

from tests.support.fixtures import client, handlers, table

__all__ = ["client", "handlers", "table"]
