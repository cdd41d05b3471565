"""The objects that the parts of the admin share."""

from __future__ import annotations

from functools import partial

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._options import AdminOptions
from trio_graphile.admin._safety.audit import Audit


@attrs.frozen(kw_only=True)
class Context:
    """The objects that the parts of the admin share."""

    client: Client
    """Adds and changes jobs, with the tasks and plugins of the program. It has sessions of its own, with the
    program's timeouts."""
    database: Database
    """Sessions that only read, with short timeouts."""
    options: AdminOptions
    audit: Audit = attrs.field(factory=Audit)
    reading_payloads: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1))
    """Limits the redaction of large payloads to one thread."""
    looks: Looks | None = None
    """Watches the queue for all open pages; None if nobody can watch."""
