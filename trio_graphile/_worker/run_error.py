"""The error of a run: one exception that stands for all errors that ended a worker."""

from __future__ import annotations

import attrs
import trio

from trio_graphile._exceptions import ShutdownIncomplete, WorkerCrashed
from trio_graphile._model.groups import leaves


@attrs.frozen
class Unwritten:
    """Jobs whose outcomes could not be written in time, and why."""

    job_ids: tuple[int, ...]
    reason: str


def run_error_of(
    raised: BaseException | None, unwritten: Unwritten | None, worker_id: str
) -> BaseException | None:
    """Return the one exception that `Worker.run` raises; None for a cancellation, or for nothing.

    `raised` is what the nurseries raised, or None. If they crashed, the exception names the crash. A
    `KeyboardInterrupt` or `SystemExit` does not hide `ShutdownIncomplete`, nor the other way round: a program
    that handles only one of the two must not go on as if there were no other.
    """
    errors = [error for error in leaves(raised) if not isinstance(error, trio.Cancelled)] if raised else []
    decision = next((e for e in errors if isinstance(e, (KeyboardInterrupt, SystemExit))), None)
    crash = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
    if unwritten is None:
        return decision or (WorkerCrashed(crash) if errors else None)
    reason = f"not all was recorded: {unwritten.reason}"
    if errors and decision is None:
        reason += f"; before that the worker had crashed: {crash}"
    incomplete = ShutdownIncomplete(worker_id, unwritten.job_ids, reason)
    if decision is None:
        return incomplete
    return BaseExceptionGroup("the program is to end, and not all was recorded", [decision, incomplete])
