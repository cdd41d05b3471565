"""The admin: pages and a JSON API, and the server for them."""

from __future__ import annotations

from trio_graphile.admin._app import Admin
from trio_graphile.admin._options import EVERYTHING, READING, Access, Action, AdminOptions, LoginOptions
from trio_graphile.admin._server.addresses import AddressUnavailable
from trio_graphile.admin._server.limits import ServerLimits
from trio_graphile.admin._server.serving import serve_admin

__all__ = [
    "EVERYTHING",
    "READING",
    "Access",
    "Action",
    "AddressUnavailable",
    "Admin",
    "AdminOptions",
    "LoginOptions",
    "ServerLimits",
    "serve_admin",
]
