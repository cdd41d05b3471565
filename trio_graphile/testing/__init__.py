"""For tests of programs that queue jobs: a server for the session, a database for each test, and more."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trio_graphile.testing._added import WaitingJob as WaitingJob
    from trio_graphile.testing._added import added_jobs as added_jobs
    from trio_graphile.testing._added import assert_added as assert_added
    from trio_graphile.testing._cron_jobs import add_cron_jobs as add_cron_jobs
    from trio_graphile.testing._databases import TemplateDatabases as TemplateDatabases
    from trio_graphile.testing._every_point import EndedRun as EndedRun
    from trio_graphile.testing._every_point import Ending as Ending
    from trio_graphile.testing._every_point import end_at_every_point as end_at_every_point
    from trio_graphile.testing._observed import Observed as Observed
    from trio_graphile.testing._points import PointsTried as PointsTried
    from trio_graphile.testing._run_job import run_job as run_job
    from trio_graphile.testing._run_until_empty import run_until_empty as run_until_empty
    from trio_graphile.testing._runs import FinishedRun as FinishedRun
    from trio_graphile.testing._runs import RunFailed as RunFailed
    from trio_graphile.testing._runs import RunOutcome as RunOutcome
    from trio_graphile.testing._runs import SingleRun as SingleRun
    from trio_graphile.testing._server import embedded_postgres_in_thread as embedded_postgres_in_thread
else:
    # A name is imported when it is first asked for: pytest loads the plugin beside us in every run, also of
    # programs that do not use it. Type checkers read the imports above; a test compares them with this table.
    _HOMES = {
        "EndedRun": "_every_point",
        "Ending": "_every_point",
        "FinishedRun": "_runs",
        "Observed": "_observed",
        "PointsTried": "_points",
        "RunFailed": "_runs",
        "RunOutcome": "_runs",
        "SingleRun": "_runs",
        "TemplateDatabases": "_databases",
        "WaitingJob": "_added",
        "add_cron_jobs": "_cron_jobs",
        "added_jobs": "_added",
        "assert_added": "_added",
        "embedded_postgres_in_thread": "_server",
        "end_at_every_point": "_every_point",
        "run_job": "_run_job",
        "run_until_empty": "_run_until_empty",
    }
    __all__ = list(_HOMES)

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
