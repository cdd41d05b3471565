"""What the parts of the admin share."""

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
    """What the parts of the admin share."""

    client: Client
    """Adds and changes jobs, with the program's tasks and plugins. It has sessions of its own, which may take
    as long as the program's."""
    database: Database
    """Sessions for whatever is only looked at, which give up soon."""
    options: AdminOptions
    audit: Audit = attrs.field(factory=Audit)
    reading_payloads: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1))
    """For the one thread in which large payloads are made fit to be seen."""
    looks: Looks | None = None
    """Looks at the queue for all who watch; None where nobody can."""
