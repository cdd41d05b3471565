"""What a run is given by its worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from trio_graphile._cron.item import CronItem
from trio_graphile._database.database import Database
from trio_graphile._model.options import WorkerOptions
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile._worker.cron_ticker import Clock
from trio_graphile._worker.ending import Ending
from trio_graphile.hooks._registry import Hooks


@attrs.frozen(kw_only=True)
class RunSettings:
    """What a run is given by its worker."""

    database: Database
    tasks: TaskRegistry
    options: WorkerOptions
    worker_id: str
    state: Any
    hooks: Hooks
    crontab: Sequence[CronItem]
    clock: Clock
    drains: bool
    """Whether the run ends when nothing is due."""
    cancel_timeout: float
    """How long a statement or a thread may take to end after a cancellation, in seconds."""
    ending: Ending

    @property
    def listens(self) -> bool:
        """Whether the run listens for notifications: a drain looks for itself until nothing is due."""
        return self.options.notifications and self.database.may_listen and not self.drains
