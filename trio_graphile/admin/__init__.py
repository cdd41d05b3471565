"""The admin: pages and a JSON API, and the server for them."""

from __future__ import annotations

from trio_graphile.admin._server.addresses import AddressUnavailable
from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.serving import serve_admin

__all__ = ["AddressUnavailable", "ServerLimits", "serve_admin"]
