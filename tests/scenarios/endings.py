"""What happens to a run at a point: how it is ended, or what a neighbour does to it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from tests.scenarios.neighbours import LOCKS
from tests.scenarios.trial import Trial

Ending: TypeAlias = Callable[[Trial], None]


def _stop(trial: Trial) -> None:
    trial.note_end()
    trial.worker.stop()


def _cancel(trial: Trial) -> None:
    trial.note_end()
    trial.worker.cancel()


def _cancel_outside(trial: Trial) -> None:
    trial.note_end()
    trial.scope.cancel()


def _break_a_service(trial: Trial) -> None:
    trial.tasks.broken = True


def _lose_connections(trial: Trial) -> None:
    """Have the server drop every session of the trial's database, as an administrator would."""
    name = trial.database_name
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (process / "cmdline").read_text()
            if title.startswith("postgres: ") and f" {name} " in title:
                os.kill(int(process.name), signal.SIGTERM)


ENDINGS: dict[str, Ending] = {
    "stop": _stop,
    "worker_cancel": _cancel,
    "outer_cancel": _cancel_outside,
    "broken_service": _break_a_service,
    "lost_connections": _lose_connections,
}


def _nothing(trial: Trial) -> None:
    pass


def _lock(what: str, then: Ending, trial: Trial) -> None:
    trial.neighbour.call(LOCKS[what], partial(then, trial))


NEIGHBOURS: dict[str, Ending] = {f"locked_{what}": partial(_lock, what, _nothing) for what in LOCKS}
"""What does not end a run, but holds it up."""
NEIGHBOURS |= {
    f"{name}_behind_{what}": partial(_lock, what, then)
    for name, then in (("stop", _stop), ("outer_cancel", _cancel_outside))
    for what in ("jobs", "table_of_jobs")
}
