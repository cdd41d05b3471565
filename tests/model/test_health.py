"""Health: which statistics make a worker not ready, and which not alive."""

from __future__ import annotations

from typing import Any

import pytest

from trio_graphile import ListenState, OptionInvalid, WorkerPhase, WorkerStatistics
from trio_graphile._model.health import HealthOptions, health_of, standstills

OPTIONS = HealthOptions(stalled_after=10, lagging_after=2, wedged_after=100)
RUNS = {"phase": WorkerPhase.RUNNING}


@pytest.mark.parametrize(
    ("statistics", "alive", "ready", "reason"),
    [
        ({}, False, False, "it does not run"),
        ({"phase": WorkerPhase.STARTING}, True, False, "it has not started yet"),
        ({"phase": WorkerPhase.STOPPING}, True, False, "it stops"),
        (RUNS, True, True, ""),
        ({**RUNS, "claim_pending": 10, "record_pending": 10, "loop_lag": 2}, True, True, ""),
        ({**RUNS, "claim_pending": 11}, True, False, "it has failed to claim jobs for 11 s"),
        ({**RUNS, "claim_pending": 101}, False, False, "it has failed to claim jobs for 101 s"),
        ({**RUNS, "record_pending": 11}, True, False, "it has failed to record outcomes for 11 s"),
        ({**RUNS, "record_pending": 101}, False, False, "it has failed to record outcomes for 101 s"),
        ({**RUNS, "heartbeat_age": 99}, True, True, ""),
        ({**RUNS, "heartbeat_age": 101}, False, False, "its lease was not renewed for 101 s"),
        ({**RUNS, "lease_holds": False}, True, False, "its lease has ended"),
        ({**RUNS, "standstills": ("slot 3 has ended",), "standstill": 99}, True, False, "slot 3 has ended"),
        ({**RUNS, "standstills": ("slot 3 has ended",), "standstill": 101}, False, False, "slot 3 has ended"),
        ({**RUNS, "loop_lag": 3.25}, True, False, "its event loop was late by 3.2 s: a handler blocks it"),
    ],
)
def test_what_makes_a_worker_unwell(
    statistics: dict[str, Any],
    alive: bool,  # noqa: FBT001  # a column of the table
    ready: bool,  # noqa: FBT001  # as above
    reason: str,
) -> None:
    health = health_of(WorkerStatistics(**statistics), OPTIONS)
    assert (health.is_alive, health.is_ready) == (alive, ready)
    assert len(health.reasons) == (0 if ready else 1), "each reason is said once"
    assert "".join(health.reasons).startswith(reason)


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        ({}, {}, []),
        ({"paused": 2}, {"paused": 2}, ["slots wait for room for outcomes though there is room"]),
        ({"paused": 2, "has_room": False}, {"paused": 2}, []),
        ({"paused": 2}, {"paused": 2, "has_room": False}, []),
        ({"idle": 1, "held": 2}, {"idle": 1, "held": 2}, ["slots are idle though jobs are held"]),
        ({"idle": 1, "held": 2}, {"idle": 1, "held": 2, "completed": 1}, []),
        ({"idle": 1, "held": 2}, {"idle": 1, "held": 1}, []),
        ({"idle": 1, "held": 2, "lease_holds": False}, {"idle": 1, "held": 2}, []),
        ({"idle": 1}, {"idle": 1}, []),
        ({"claim_overdue": 1}, {"claim_overdue": 2}, ["slots are idle, but no jobs are claimed for them"]),
        ({"claim_overdue": 0}, {"claim_overdue": 2}, []),
        ({"record_overdue": 1}, {"record_overdue": 2}, ["outcomes wait, but none are written"]),
        ({"record_overdue": 0}, {"record_overdue": 2}, []),
    ],
)
def test_what_stands_still_from_one_look_to_the_next(
    before: dict[str, Any], now: dict[str, Any], found: list[str]
) -> None:
    assert standstills(WorkerStatistics(**before), WorkerStatistics(**now)) == found


def test_what_is_worth_a_remark_is_no_reason() -> None:
    statistics = WorkerStatistics(phase=WorkerPhase.RUNNING, listen_state=ListenState.LOST, events_dropped=3)
    health = health_of(statistics, OPTIONS)
    assert health.is_ready
    assert health.remarks == (
        "it does not hear of new jobs, and polls",
        "it dropped 3 events, since observers were too slow",
    )


def test_one_event_is_one() -> None:
    health = health_of(WorkerStatistics(phase=WorkerPhase.RUNNING, events_dropped=1), OPTIONS)
    assert health.remarks == ("it dropped 1 event, since observers were too slow",)


def test_milliseconds_are_refused() -> None:
    with pytest.raises(OptionInvalid, match="seconds are over the maximum"):
        HealthOptions(lagging_after=5000)
