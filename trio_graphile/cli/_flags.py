"""What several commands take: the fields of the options' classes, with their own texts and defaults."""

from __future__ import annotations

import logging
import re
from typing import Annotated, TypeAlias

from cyclopts import Group, Parameter

from trio_graphile._model.options import DatabaseOptions, ShutdownOptions, WorkerOptions

_DATABASE = Group("Database", sort_key=1)
_WORKER = Group("Worker", sort_key=2)

DatabaseUrl: TypeAlias = Annotated[
    str | None,
    Parameter(
        group=_DATABASE,
        help="Such as postgresql://user@host:5432/database. Defaults to $DATABASE_URL, else to the PG* "
        "variables. A password is safer there than here, where every user of the machine sees it.",
    ),
]
DatabaseFlags: TypeAlias = Annotated[DatabaseOptions, Parameter(name="*", group=_DATABASE)]
WorkerFlags: TypeAlias = Annotated[
    # Those of its part are flags without a prefix.
    WorkerOptions, Parameter(name="*", group=_WORKER, parse=re.compile("^(?!shutdown$)"))
]
ShutdownFlags: TypeAlias = Annotated[ShutdownOptions, Parameter(name="*", group=_WORKER)]
Switch: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
Verbose: TypeAlias = Annotated[Switch, Parameter(help="Log what happens, and show tracebacks.")]

DATABASE_DEFAULTS = DatabaseOptions()
WORKER_DEFAULTS = WorkerOptions()
SHUTDOWN_DEFAULTS = ShutdownOptions()


def configure_logging(*, verbose: bool) -> None:
    """Log to standard error; the library itself configures nothing."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
