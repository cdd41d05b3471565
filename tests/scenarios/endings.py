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
from tests.scenarios.rivals import Deed, Rival
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


def _meddle(deed: Deed, then: Ending, trial: Trial) -> None:
    trial.rival.call(deed, partial(then, trial))


def _each(**deeds: Deed) -> dict[str, Ending]:
    """Return what a rival can do, alone and when the run is ended as it takes effect."""
    ways = (("", _nothing), ("stop_when_", _stop), ("outer_cancel_when_", _cancel_outside))
    return {
        f"{way}{name}": partial(_meddle, deed, then) for name, deed in deeds.items() for way, then in ways
    }


RIVALS: dict[str, Ending] = {
    name: partial(_meddle, deed, _nothing)
    for name, deed in (
        ("registration_cut", Rival.cut_registration),
        ("incarnation_changed", Rival.change_incarnation),
        ("failed_over", Rival.fail_over),
        ("unregistered", Rival.unregister),
    )
} | _each(lock_lost=Rival.cut_lock)
"""What happens to that which stands for a worker, whose jobs stay its own."""

TAKERS = _each(taken=Rival.take_jobs)
"""Another worker that takes its jobs."""

FENCES = _each(taken_after_fence=Rival.take_jobs_after_fence)
"""The same, where the worker has to interrupt its handlers before."""
