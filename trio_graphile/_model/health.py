"""Health: whether a worker works, according to its own statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from trio_graphile._model.counted import counted
from trio_graphile._model.statistics import ListenState, WorkerPhase, WorkerStatistics
from trio_graphile._model.validators import seconds


@attrs.frozen(kw_only=True)
class HealthOptions:
    """The limits beyond which a worker is not healthy. Durations are seconds. Raises `OptionInvalid`."""

    stalled_after: float = attrs.field(default=15.0, validator=seconds(86_400))
    """For how long a claim or a record may fail before the worker counts as not ready."""
    lagging_after: float = attrs.field(default=5.0, validator=seconds(3600))
    """How late the event loop of the worker may be."""
    wedged_after: float = attrs.field(default=600.0, validator=seconds(604_800))
    """For how long the worker may be cut off from the database before it counts as not alive, so that an
    orchestrator replaces it. If the database is down for longer, all workers are replaced, which does not
    help."""


@attrs.frozen(kw_only=True)
class Health:
    """The health of a worker."""

    is_alive: bool
    """Whether the worker should be kept: false if a new one would do better."""
    is_ready: bool
    """Whether the worker does its work."""
    reasons: tuple[str, ...] = ()
    """Why the worker is not ready, or not alive."""
    remarks: tuple[str, ...] = ()
    """Oddities that make it neither unready nor dead."""


def health_of(statistics: WorkerStatistics, options: HealthOptions) -> Health:
    """Return the health of a worker."""
    wedged = tuple(_wedged(statistics, options))
    reasons = (*_phases(statistics), *wedged, *_stalls(statistics, options), *statistics.standstills)
    return Health(
        is_alive=not wedged
        and statistics.standstill <= options.wedged_after
        and statistics.phase is not WorkerPhase.NOT_RUNNING,
        is_ready=not reasons,
        reasons=reasons,
        remarks=tuple(_remarks(statistics)),
    )


def standstills(before: WorkerStatistics, now: WorkerStatistics) -> list[str]:
    """Return what did not move from one look at a worker to the next, although nothing keeps it."""
    has_moved = _progress(before) != _progress(now)

    def at_both(look: Callable[[WorkerStatistics], bool]) -> bool:
        return look(before) and look(now)

    signs = {
        "slots wait for room for outcomes though there is room": at_both(
            lambda s: s.paused > 0 and s.has_room
        ),
        "slots are idle though jobs are held": not has_moved
        and at_both(lambda s: s.idle > 0 and s.held > 0 and s.lease_holds),
        "slots are idle, but no jobs are claimed for them": at_both(lambda s: s.claim_overdue > 0),
        "outcomes wait, but none are written": at_both(lambda s: s.record_overdue > 0),
    }
    return [text for text, is_there in signs.items() if is_there]


def _progress(statistics: WorkerStatistics) -> object:
    running = [running.job.id for running in statistics.running]
    return running, statistics.completed, statistics.failed, statistics.held


def _phases(statistics: WorkerStatistics) -> Iterator[str]:
    match statistics.phase:
        case WorkerPhase.NOT_RUNNING:
            yield "it does not run"
        case WorkerPhase.STARTING:
            yield "it has not started yet"
        case WorkerPhase.STOPPING:
            yield "it stops"
        case WorkerPhase.RUNNING:
            pass


def _wedged(statistics: WorkerStatistics, options: HealthOptions) -> Iterator[str]:
    for what, duration in (
        ("its lease was not renewed", statistics.heartbeat_age or 0.0),
        ("it has failed to claim jobs", statistics.claim_pending),
        ("it has failed to record outcomes", statistics.record_pending),
    ):
        if duration > options.wedged_after:
            yield f"{what} for {duration:.0f} s"


def _stalls(statistics: WorkerStatistics, options: HealthOptions) -> Iterator[str]:
    if not statistics.lease_holds:
        yield "its lease has ended: others may take its jobs, and it runs none"
    if options.stalled_after < statistics.claim_pending <= options.wedged_after:
        yield f"it has failed to claim jobs for {statistics.claim_pending:.0f} s"
    if options.stalled_after < statistics.record_pending <= options.wedged_after:
        yield f"it has failed to record outcomes for {statistics.record_pending:.0f} s"
    if statistics.loop_lag > options.lagging_after:
        yield f"its event loop was late by {statistics.loop_lag:.1f} s: a handler blocks it"


def _remarks(statistics: WorkerStatistics) -> Iterator[str]:
    if statistics.listen_state is ListenState.LOST:
        yield "it does not hear of new jobs, and polls"
    if statistics.events_dropped:
        yield f"it dropped {counted(statistics.events_dropped, 'event')}, since observers were too slow"
