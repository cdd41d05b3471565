"""What each template is given, with one text wherever a text from a row can stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from trio_graphile._cron.recurring import RecurringStatus
from trio_graphile._model.diagnosis import Finding, Level
from trio_graphile._model.explanation import Reason, ReasonKind
from trio_graphile._model.inspection import JobState
from trio_graphile._model.instants import LAST
from trio_graphile._model.samples import HistoryPoint, SlowTask, Span
from trio_graphile._model.timeline import TimelineEntry, TimelineKind
from trio_graphile._model.verbatim import Verbatim
from trio_graphile.admin._operations import answers
from trio_graphile.admin._operations.requests import FailuresRequest
from trio_graphile.admin._options import Access, Action
from trio_graphile.admin._pages import jobs, lists, maintenance, overview
from trio_graphile.admin._pages.heartbeats import running_rows, worker_row
from trio_graphile.admin._pages.history import charts_of
from trio_graphile.admin._pages.rendering import Frame

NOW = datetime(2026, 11, 29, 8, 30, tzinfo=UTC)
HOSTILE = '<img src=x onerror="alert(1)">\'&{{ 7 * 7 }}\u202e\x1b\u200b--><script>alert(2)</script>'


def frame(
    section: str = "", text: str = HOSTILE, may: frozenset[Action] = frozenset(Action), **rest: Any
) -> Frame:
    values: dict[str, Any] = {
        "root": "/queue",
        "section": section,
        "theme": "system",
        "schema": text,
        "access": Access(user=text, may=may),
        "csrf_header": "x-graphile-worker-admin-csrf",
        "csrf_token": "token",
        "may_log_out": True,
        "now": NOW,
    }
    return Frame(**(values | rest))


def listed(id_: int, state: JobState, text: str, **rest: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "task_identifier": text,
        "queue_name": text,
        "payload": Verbatim('{"to": "<b>", "n": 12345678901234567890.10}'),
        "priority": 0,
        "run_at": NOW - timedelta(minutes=3),
        "attempts": 3,
        "max_attempts": 25,
        "last_error": f"{text}\nat line 2",
        "created_at": NOW - timedelta(hours=5),
        "updated_at": NOW - timedelta(minutes=3),
        "key": text,
        "locked_at": NOW - timedelta(seconds=20),
        "locked_by": text,
        "revision": 1,
        "flags": {text: True},
        "is_available": True,
        "state": state,
        "payload_size": 200_000,
        "has_whole_error": False,
    } | rest


def workers(text: str) -> list[answers.ActiveWorkerAnswer]:
    running = [{"id": 41, "task_identifier": text, "seconds": 12.5, "progress": {"done": text}}]
    times = {"runs": 90, "failures": 3, "run_seconds": 30.5, "run_max": 4.0}
    statistics = {
        "slots": 20,
        "busy": 7,
        "held": 40,
        "completed": 12_345,
        "failed": 6,
        "running": running,
        "tasks": {text: times},
    }
    said = {"pid": 7, "host": text, "version": text, "concurrency": 20, "tasks": [text, "b"]}
    return [
        answers.ActiveWorkerAnswer(
            worker_id=f"{text}{number}",
            last_heartbeat_at=NOW - timedelta(seconds=8),
            started_at=NOW - timedelta(hours=9),
            metadata=metadata,
            is_stale=number == 1,
        )
        for number, metadata in enumerate([said | {"statistics": statistics}, None, [text], text])
    ]


def queue(text: str) -> answers.QueueAnswer:
    return answers.QueueAnswer(
        id=1,
        queue_name=text,
        locked_at=NOW - timedelta(seconds=5),
        locked_by=text,
        job_count=1234,
        ready_count=12,
        estimated=["job_count"],
        head_id=7,
        head_task_identifier=text,
        waiting_since=NOW - timedelta(minutes=2),
    )


def failures(text: str) -> answers.FailuresAnswer:
    group: dict[str, Any] = {
        "task_identifier": text,
        "latest_at": NOW - timedelta(minutes=40),
        "example_id": 12,
    }
    return answers.FailuresAnswer(
        groups=[
            answers.FailureAnswer(error=text, count=250, is_estimate=False, **group),
            answers.FailureAnswer(error="", count=123_456, is_estimate=True, **group),
        ]
    )


def findings(text: str) -> answers.FindingsAnswer:
    return answers.FindingsAnswer(findings=[Finding("locks", level, text, text) for level in Level])


def history_points() -> list[HistoryPoint]:
    return [
        HistoryPoint(
            at=NOW - timedelta(minutes=60 - minute),
            ready=None if 20 < minute < 26 else 40 + minute * 7 % 23,
            locked=18,
            failed=3 + minute // 12,
            added=200 + minute * 37 % 60,
            gone=190 + minute * 31 % 70,
            failures=minute % 9,
            wait=0.2 + minute % 7 / 10,
            run=1.1 + minute % 5 / 10,
        )
        for minute in range(60)
    ]


def overview_page(text: str) -> dict[str, Any]:
    seen = answers.OverviewAnswer(
        stats=answers.StatsAnswer(total=2_790_013, ready=354_933, scheduled=30, locked=18, failed=204_504),
        queues=[queue(text)],
        workers=[],
        active_workers=workers(text),
        estimated=["total", "ready", "failed"],
        counted_at=NOW,
        oldest_ready_at=NOW - timedelta(minutes=4),
        queues_next=None,
    )
    return {
        "asked": overview.OverviewPageRequest(),
        "overview": seen,
        "failures": failures(text),
        "findings": findings(text),
        "charts": charts_of(history_points(), Span.HOUR),
        "slowest": [SlowTask(task_identifier=text, runs=90, failures=3, mean_run=0.34, max_run=4.0)],
        "counters": overview.COUNTERS,
        "spans": overview.SPANS,
    }


def jobs_page(text: str) -> dict[str, Any]:
    asked = jobs.JobsPageRequest(
        state=["failed"], identifier=[text, "b"], queue=[text], key=text, error=text, flag=[text], search=text
    )
    found = answers.JobsAnswer(
        jobs=[
            answers.ListedJobAnswer(
                **listed(number, state, text, payload=None if number == 2 else Verbatim(f'{{"a": "{text}"}}'))
            )
            for number, state in enumerate(JobState)
        ],
        next="next",
        previous="previous",
        scanned=20_000,
        unsearched=3,
    )
    return {
        "asked": asked,
        "found": found,
        "until_id": 99,
        "filter": jobs.filter_of(asked, 99),
        "is_whole": False,
        "conditions": jobs.list_conditions("/queue", asked),
        "several": [("identifier", [text, "b"])],
        "orders": jobs.ORDERS,
        "caption": "the newest first",
        "bulk": jobs.ACTIONS,
        "tasks": [text],
        "queues": [text],
        **jobs.addresses_of("/queue", asked, found),
    }


def job_page(text: str) -> dict[str, Any]:
    reasons = [
        Reason(
            kind=ReasonKind.QUEUE_LOCKED,
            text=text,
            advice=text,
            job_id=3,
            worker_id=text,
            queue_name=text,
            at=NOW + timedelta(minutes=5),
        ),
        Reason(kind=ReasonKind.NOT_DUE, text="it is not due"),
    ]
    entries = [
        TimelineEntry(kind=TimelineKind.TRIED, text=text, at=NOW, is_about=True),
        TimelineEntry(kind=TimelineKind.ATTEMPT, text=text, at=LAST, is_to_come=True),
        TimelineEntry(kind=TimelineKind.GIVES_UP, text=text, is_to_come=True),
    ]
    job = answers.JobAnswer(**listed(12, JobState.READY, text), explanation=reasons, timeline=entries)
    return {
        "job": job,
        "payload": f'{{"to":"{text}","big":12345678901234567890.10,"empty":[],"list":[1,{{"a":null}}]}}',
        "progress": text,
        "actions": jobs.ACTIONS,
        "most_shown": 262_144,
    }


def add_page(text: str) -> dict[str, Any]:
    like = answers.JobAnswer(**listed(12, JobState.READY, text), explanation=[], timeline=[])
    return {
        "asked": jobs.AddPageRequest(identifier=text),
        "like": like,
        "payload_text": f'{{"a": "{text}"}}',
        "tasks": [text],
        "queues": [text],
    }


def lists_page(text: str, **rest: Any) -> dict[str, Any]:
    return {"asked": lists.ListPageRequest(search=text), "previous_url": "/p", "next_url": "/n", **rest}


def tasks_page(text: str) -> dict[str, Any]:
    one = answers.TaskAnswer(
        id=1,
        task_identifier=text,
        ready=10_000,
        scheduled=4,
        failed=0,
        estimated=["ready"],
        oldest_ready_at=NOW - timedelta(days=4),
        workers=0,
        is_known_here=False,
    )
    found = answers.TasksAnswer(tasks=[one], next="n")
    return lists_page(text, found=found, knows_tasks=True)


def queues_page(text: str) -> dict[str, Any]:
    found = answers.QueuesAnswer(queues=[queue(text)], next="n")
    return lists_page(text, found=found, liveness=lists.liveness_of(None))


def workers_page(text: str) -> dict[str, Any]:
    holder = answers.HolderAnswer(worker_id=text, locked_jobs=120, locked_queues=1)
    found = answers.WorkersAnswer(workers=[holder], active_workers=workers(text), is_complete=False)
    return {
        "found": found,
        "workers": [worker_row(worker) for worker in found.active_workers],
        "running": running_rows(found.active_workers),
        "liveness": lists.liveness_of(found),
    }


def failures_page(text: str) -> dict[str, Any]:
    return {"asked": FailuresRequest(identifier=[text]), "found": failures(text), "until_id": 5}


def maintenance_page(text: str) -> dict[str, Any]:
    return {"actions": maintenance.ACTIONS, "findings": findings(text)}


def recurring_page(text: str) -> dict[str, Any]:
    entries = [
        RecurringStatus(
            identifier=text,
            task_identifier=text,
            schedule=text,
            zone=text,
            words=text,
            next=(NOW, NOW + timedelta(hours=1)),
            missed=3,
            known_since=NOW,
            last_at=NOW,
        ),
        RecurringStatus(identifier=f"{text}2"),
    ]
    return {
        "found": answers.CrontabsAnswer(crontabs=entries),
        "knows_crontab": True,
        "requests": {text: '{"identifier":"x"}'},
    }


PAGES = {
    "overview.html": ("", overview_page),
    "jobs.html": ("jobs", jobs_page),
    "job.html": ("jobs", job_page),
    "add.html": ("jobs", add_page),
    "failures.html": ("failures", failures_page),
    "tasks.html": ("tasks", tasks_page),
    "queues.html": ("queues", queues_page),
    "workers.html": ("workers", workers_page),
    "recurring.html": ("recurring", recurring_page),
    "maintenance.html": ("maintenance", maintenance_page),
}
