"""For tests of programs that queue jobs: a server for the session, a database for each test, and more."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_graphile.testing._databases import TemplateDatabases as TemplateDatabases
    from trio_graphile.testing._every_point import EndedRun as EndedRun
    from trio_graphile.testing._every_point import Ending as Ending
    from trio_graphile.testing._every_point import end_at_every_point as end_at_every_point
    from trio_graphile.testing._points import PointsTried as PointsTried
    from trio_graphile.testing._server import embedded_postgres_in_thread as embedded_postgres_in_thread
else:
    # A name is imported when it is first asked for: pytest loads the plugin beside us in every run, also of
    # programs that do not use it. Type checkers read the imports above; a test compares them with this table.
    _HOMES = {
        "EndedRun": "_every_point",
        "Ending": "_every_point",
        "PointsTried": "_points",
        "TemplateDatabases": "_databases",
        "embedded_postgres_in_thread": "_server",
        "end_at_every_point": "_every_point",
    }
    __all__ = list(_HOMES)

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
