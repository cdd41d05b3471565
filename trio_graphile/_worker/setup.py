"""What a program's own code lends to the worker that `trio-graphile run --setup` starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from trio_graphile._cron.item import CronItem
from trio_graphile.hooks._registry import Plugin


@attrs.frozen(kw_only=True)
class WorkerSetup:
    """What the function behind `--setup` yields: what `Worker` would otherwise be given by name."""

    state: Any = None
    """Whatever handlers should find as `context.state`; a `State` holds several values."""
    plugins: Sequence[Plugin] = ()
    """Observers and interceptors, after those of `--plugin`."""
    crontab: Sequence[CronItem] = ()
    """Recurring jobs, beside those of `--crontab`. `--once` adds none."""
