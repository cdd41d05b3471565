"""What the parts of the admin share."""

from __future__ import annotations

import attrs

from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._options import AdminOptions
from trio_graphile.admin._safety.audit import Audit


@attrs.frozen(kw_only=True)
class Context:
    """What the parts of the admin share."""

    client: Client
    """Adds and changes jobs, with the program's tasks and plugins, on the admin's own sessions."""
    database: Database
    """The admin's own sessions."""
    options: AdminOptions
    audit: Audit = attrs.field(factory=Audit)
    looks: Looks | None = None
    """Looks at the queue for all who watch; None where nobody can."""
