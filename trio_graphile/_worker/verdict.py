"""The verdict: the one exception that stands for all that ended a worker."""

from __future__ import annotations

import attrs
import trio

from trio_graphile._exceptions import ShutdownIncomplete, WorkerCrashed
from trio_graphile._model.groups import leaves


@attrs.frozen
class Unwritten:
    """What became of these jobs could not be written in time."""

    job_ids: tuple[int, ...]
    reason: str


def verdict_of(
    raised: BaseException | None, unwritten: Unwritten | None, worker_id: str
) -> BaseException | None:
    """Return the one exception that `Worker.run` raises; None for a cancellation, or for nothing.

    `raised` is what came out of the nest of nurseries, if anything did. A crash is named by whatever is
    raised. A `KeyboardInterrupt` or `SystemExit` is not hidden behind `ShutdownIncomplete`, nor the other way
    round: whoever handles one of them without the other is not to go on as if that were all.
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
