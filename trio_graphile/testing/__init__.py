"""For tests of programs that queue jobs: a server for the session, a database for each test."""

from __future__ import annotations

from trio_graphile.testing._databases import TemplateDatabases
from trio_graphile.testing._server import embedded_postgres_in_thread

__all__ = ["TemplateDatabases", "embedded_postgres_in_thread"]
