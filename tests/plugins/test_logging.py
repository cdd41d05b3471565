"""The log of events: one line for each, its fields beside it, and never a payload."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from trio_graphile import (
    Client,
    CronItem,
    Database,
    Job,
    JobSpec,
    OptionInvalid,
    ShutdownReport,
    StopCause,
    TaskRegistry,
    Worker,
)
from trio_graphile._model.local_queue import Mode
from trio_graphile.hooks import (
    CronTicked,
    Event,
    GracePeriodOver,
    JobCompleted,
    JobEvent,
    JobFailed,
    LocalQueueModeChanged,
    RefetchDelayStarted,
    WorkerEnded,
    WorkerStarted,
)
from trio_graphile.plugins.logging import Logging, fields_of

NOW = datetime(2024, 5, 1, tzinfo=UTC)
JOB = Job(
    id=7,
    task_identifier="send",
    payload_json='{"secret": "sesame"}',
    run_at=NOW,
    created_at=NOW,
    updated_at=NOW,
    attempts=2,
)


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            JobCompleted(worker_id="w", job=JOB, duration=0.1234567),
            {"worker_id": "w", "job_id": 7, "task": "send", "attempt": 2, "duration": 0.123457},
        ),
        (
            JobFailed(worker_id="w", job=JOB, error="no", duration=1.0, retry_in=None),
            {"worker_id": "w", "job_id": 7, "task": "send", "attempt": 2, "error": "no", "duration": 1.0},
        ),
        (GracePeriodOver(worker_id="w", running=(JOB, JOB)), {"worker_id": "w", "job_ids": [7, 7]}),
        (
            LocalQueueModeChanged(worker_id="w", old=Mode.POLLING, new=Mode.HOLDING),
            {"worker_id": "w", "old": "polling", "new": "holding"},
        ),
        (
            WorkerEnded(
                worker_id="w",
                cause=StopCause.STOPPED,
                report=ShutdownReport(worker_id="w", completed=3, seconds=0.5),
            ),
            {
                "worker_id": "w",
                "cause": "stopped",
                **dict.fromkeys(("failed", "returned", "snoozed", "removed", "lost"), 0),
                "completed": 3,
                "seconds": 0.5,
            },
        ),
        (
            CronTicked(
                worker_id="w",
                at=NOW,
                entries=(CronItem(schedule="* * * * *", task_identifier="t", payload_json='{"secret": 1}'),),
                backfilled=False,
            ),
            {"worker_id": "w", "at": "2024-05-01 00:00:00+00:00", "entries": ["t"], "backfilled": False},
        ),
        (
            RefetchDelayStarted(worker_id="w", duration=1.0, threshold=1, abort_threshold=float("inf")),
            {"worker_id": "w", "duration": 1.0, "threshold": 1, "abort_threshold": float("inf")},
        ),
    ],
)
def test_the_fields_of_an_event_are_plain(event: Any, fields: dict[str, object]) -> None:
    assert fields_of(event) == fields
    assert "secret" not in json.dumps(fields_of(event))


async def run(database: Database, plugin: Logging) -> None:
    tasks = TaskRegistry()

    @tasks.task("good")
    async def good(payload: dict[str, str]) -> None: ...

    @tasks.task("bad")
    async def bad(payload: dict[str, str]) -> None:
        raise ValueError("no such luck")

    payload = {"password": "sesame"}
    await Client(database).add_raw_jobs(
        [
            ("good", payload, JobSpec(queue_name="q")),
            ("bad", payload, JobSpec(max_attempts=1)),
            ("bad", payload),
        ]
    )
    await Worker(database, tasks, plugins=[plugin]).run_once()


async def test_each_event_is_a_line_with_its_fields_beside_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "trio_graphile.events"):
        await run(database, Logging(events=(JobEvent,)))
    records = [record for record in caplog.records if record.name == "trio_graphile.events"]
    by_event = {record.__dict__["event"]: record for record in records}
    completed = by_event["job completed"]
    assert completed.message.startswith("job completed worker_id=trio_graphile_")
    assert "task=good attempt=1 queue=q duration=0." in completed.message
    assert (completed.__dict__["task"], completed.__dict__["attempt"], completed.__dict__["queue"]) == (
        "good",
        1,
        "q",
    )
    assert completed.__dict__["duration"] > 0
    levels = {name: record.levelname for name, record in by_event.items()}
    assert levels == {
        "job started": "INFO",
        "job completed": "INFO",
        "job failed": "WARNING",
        "job failed permanently": "ERROR",
    }
    assert "ValueError: no such luck" in by_event["job failed"].message
    assert "sesame" not in caplog.text


async def test_the_logger_the_events_and_the_levels_can_be_chosen(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    mine = logging.getLogger("mine")
    levels: dict[type[Event], int] = {WorkerStarted: logging.CRITICAL}
    with caplog.at_level(logging.WARNING, "mine"):
        await run(database, Logging(logger=mine, events=(WorkerStarted, WorkerEnded), levels=levels))
    assert [
        (record.levelname, record.__dict__["event"]) for record in caplog.records if record.name == "mine"
    ] == [("CRITICAL", "worker started")]


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("logger", "mine", "a logger is needed, not a value of the type str"),
        ("levels", [JobFailed], "a Mapping is needed, not a value of the type list"),
        ("levels", {JobFailed: "ERROR"}, "a level such as logging.INFO is needed, not 'ERROR'"),
        ("levels", {"JobFailed": logging.ERROR}, "a class of events is needed, not 'JobFailed'"),
    ],
)
def test_what_would_fail_at_each_event_is_refused(option: str, value: object, reason: str) -> None:
    settings: Any = {option: value}
    with pytest.raises(OptionInvalid) as raised:
        Logging(**settings)
    assert (raised.value.option, raised.value.reason) == (option, reason)


async def test_structlog_finds_the_fields(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    structlog = pytest.importorskip("structlog")
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    with caplog.at_level(logging.INFO, "trio_graphile.events"):
        await run(database, Logging(events=(JobCompleted,)))
    [record] = [record for record in caplog.records if record.name == "trio_graphile.events"]
    line = json.loads(formatter.format(record))
    assert (line["task"], line["job_id"]) == ("good", 1)
