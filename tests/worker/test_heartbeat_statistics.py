"""What a worker says of its work with each heartbeat."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Never

import attrs
import pytest

from tests.support.handlers import Handlers
from tests.support.tables import Table
from tests.support.workers import make_worker, running
from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    LeaseOptions,
    RecoveryOptions,
    Worker,
    WorkerOptions,
)
from trio_graphile._database.rows import make_job
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.explanation import TaskWorker
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Completed, Failed, Returned, Settled
from trio_graphile._worker.heartbeat import describe_worker, progress_text
from trio_graphile._worker.task_totals import OTHER_TASKS, TaskTotals

EAGER = LeaseOptions(length=2.0, margin=0.5, renew_interval=0.02)
BEAT = """
    select date_part('epoch', last_heartbeat_at)
    from graphile_worker._private_workers
    where id = $1::text
"""
SAID = "select metadata::text from graphile_worker._private_workers where id = $1::text"


def eager_worker(database: Database, handlers: Handlers, **options: object) -> Worker:
    return make_worker(database, handlers.tasks, lease=EAGER, **options)


async def said_when(table: Table, worker: Worker, condition: str) -> dict[str, Any]:
    """Return what a worker says once its statistics meet a condition."""
    await table.wait_until(
        f"""
        select coalesce(bool_or({condition}), false)
        from graphile_worker._private_workers as workers
        cross join lateral (select workers.metadata -> 'statistics') as said(statistics)
        where workers.id = $1::text
        """,
        worker.worker_id,
    )
    text = await table.database.fetch_value(SAID, worker.worker_id)
    said: dict[str, Any] = text if isinstance(text, dict) else json.loads(text)
    return said


def test_each_rule_of_claims_is_told_and_has_its_place_with_who_reads_it() -> None:
    rules = {"forbidden_flags": ["x"], "accepted_flags": ["y"], "allowed_flags": []}
    assert rules.keys() == attrs.fields_dict(ClaimRules).keys()
    said = describe_worker(WorkerOptions(**rules), ["a"])  # type: ignore[arg-type]
    assert {name: said[name] for name in rules} == rules
    assert rules.keys() <= attrs.fields_dict(TaskWorker).keys()


async def test_runs_are_added_up_by_task(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("quick", None)] * 3 + [("failing", None, JobSpec(max_attempts=1))] * 2)
    async with running(eager_worker(database, handlers)) as run:
        said = await said_when(
            table,
            run.worker,
            "(statistics ->> 'completed')::integer = 3 and (statistics ->> 'failed')::integer = 2",
        )
    tasks = said["statistics"]["tasks"]
    assert {name: (total["runs"], total["failures"]) for name, total in tasks.items()} == {
        "quick": (3, 0),
        "failing": (2, 2),
    }
    for total in tasks.values():
        assert 0 < total["run_max"] <= total["run_seconds"]
        assert 0 < total["wait_max"] <= total["wait_seconds"]
    assert (said["statistics"]["slots"], said["statistics"]["busy"]) == (4, 0)
    assert (said["statistics"]["held"], said["statistics"]["running"]) == (0, [])
    assert said["phase"] == "running"


async def test_running_jobs_are_told_with_their_progress(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("reporting")
    async def reporting(context: JobContext) -> None:
        context.report({"done": 7, "text": "x" * 300})
        await handlers.release.wait()

    [job] = await client.add_raw_jobs([("reporting", None)])
    async with running(eager_worker(database, handlers)) as run:
        said = await said_when(table, run.worker, "(statistics ->> 'busy')::integer = 1")
        handlers.release.set()
    [one] = said["statistics"]["running"]
    assert (one["id"], one["task_identifier"]) == (job.id, "reporting")
    assert 0 <= one["seconds"] < 20
    assert one["progress"].startswith('{"done":7,"text":"xxx')
    assert len(one["progress"]) == 200


async def test_a_worker_that_stops_says_so_at_once_if_it_has_jobs(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    """Its next heartbeat would be due in half a minute, and somebody may kill it before."""
    await client.add_raw_jobs([("held", None)])
    async with running(make_worker(database, handlers.tasks)) as run:
        await handlers.wait_started(1)
        run.worker.stop()
        await table.wait_until(
            """
            select metadata ->> 'phase' = 'stopping'
            from graphile_worker._private_workers
            where id = $1::text
            """,
            run.worker.worker_id,
        )
        handlers.release.set()


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


def cycle() -> list[object]:
    itself: list[object] = []
    itself.append(itself)
    return itself


class Hostile(dict[str, object]):
    def items(self) -> Never:
        raise KeyError("items")


@pytest.mark.parametrize(
    "progress",
    [object(), float("nan"), {(1,): 2}, "\ud800", cycle(), b"bytes", 10**5000, Hostile(a=float("nan"))],
    ids=["object", "nan", "key", "surrogate", "cycle", "bytes", "number", "hostile"],
)
async def test_no_report_ends_the_heartbeat(
    database: Database, client: Client, handlers: Handlers, table: Table, progress: object
) -> None:
    @handlers.tasks.task("reporting")
    async def reporting(context: JobContext) -> None:
        context.report(progress)
        await handlers.release.wait()

    await client.add_raw_jobs([("reporting", None)])
    async with running(eager_worker(database, handlers)) as run:
        said = await said_when(table, run.worker, "(statistics ->> 'busy')::integer = 1")
        handlers.release.set()
    assert [one["progress"] for one in said["statistics"]["running"]] == [None]


@pytest.mark.parametrize(
    ("progress", "told"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"'),
        ([0] * 10_000_000 + [float("nan")], "[" + "0," * 99 + "0"),
        ("x" * 10_000_000, '"' + "x" * 199),
        ({"é": [None, True, 1.5]}, '{"é":[null,true,1.5]}'),
        (nested(100_000), "[" * 200),
    ],
    ids=["time", "long list", "long text", "values", "nested"],
)
def test_no_more_of_a_report_is_looked_at_than_is_told(progress: object, told: str) -> None:
    """The lease waits for it, however large reports are."""
    assert progress_text(progress) == told


async def test_a_worker_lives_whatever_it_says_of_itself(
    database: Database, client: Client, handlers: Handlers, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    """The server refuses it, as one that is not UTF-8 does with a report that it has no letters for."""
    await database.execute("""
        alter table graphile_worker._private_workers
        add check (metadata is null or metadata #>> '{statistics,running}' = '[]')
    """)
    await client.add_raw_jobs([("held", None)])
    async with running(eager_worker(database, handlers)) as run:
        await handlers.wait_started(1)
        for _ in range(2):
            before = await database.fetch_value(BEAT, run.worker.worker_id)
            await table.wait_until(f"select ({BEAT}) > $2::float8", run.worker.worker_id, before)
        handlers.release.set()
        await said_when(table, run.worker, "(statistics ->> 'completed')::integer = 1")
    assert await table.jobs() == []
    refusals = [record for record in caplog.records if "refuses the text of the heartbeat" in record.message]
    assert len(refusals) == 1


async def test_a_report_may_hold_what_the_tables_of_the_server_cannot(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    @handlers.tasks.task("reporting")
    async def reporting(context: JobContext) -> None:
        context.report("\0")
        await handlers.release.wait()

    await client.add_raw_jobs([("reporting", None)])
    async with running(eager_worker(database, handlers)) as run:
        said = await said_when(table, run.worker, "(statistics ->> 'busy')::integer = 1")
        handlers.release.set()
    assert [one["progress"] for one in said["statistics"]["running"]] == [r'"\u0000"']


async def test_a_job_that_was_due_since_ever_adds_no_wait(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("quick", None)])
    await database.execute("update graphile_worker._private_jobs set run_at = '-infinity'")
    async with running(eager_worker(database, handlers)) as run:
        said = await said_when(table, run.worker, "(statistics ->> 'completed')::integer = 1")
    total = said["statistics"]["tasks"]["quick"]
    assert (total["runs"], total["wait_seconds"], total["wait_max"]) == (1, 0, 0)


async def test_no_more_than_a_hundred_running_jobs_are_told(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    jobs = await client.add_raw_jobs([("held", None)] * 110)
    async with running(eager_worker(database, handlers, concurrency=110)) as run:
        said = await said_when(table, run.worker, "(statistics ->> 'busy')::integer = 110")
        handlers.release.set()
    told = {one["id"] for one in said["statistics"]["running"]}
    assert len(told) == 100
    assert told <= {job.id for job in jobs}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"forbidden_flags": []}),
        (
            {"forbidden_flags": ["a"], "accepted_flags": ["b"], "allowed_flags": ["b", "c"]},
            {"forbidden_flags": ["a"], "accepted_flags": ["b"], "allowed_flags": ["b", "c"]},
        ),
        ({"forbidden_flags": lambda: ["a"]}, {}),
    ],
)
async def test_rules_are_told_unless_functions_decide(
    database: Database, handlers: Handlers, options: dict[str, object], said: dict[str, object]
) -> None:
    recovery = RecoveryOptions(sweep_threshold=777.0)
    async with running(make_worker(database, handlers.tasks, recovery=recovery, **options)) as run:
        text = await database.fetch_value(SAID, run.worker.worker_id)
    metadata = text if isinstance(text, dict) else json.loads(text)
    assert {name: flags for name, flags in metadata.items() if name.endswith("_flags")} == said
    assert metadata["sweep_threshold"] == 777.0


# --- adding up ------------------------------------------------------------------------------------


def job(waited: float = 2.0) -> Job:
    times = [1000.0, 1000.0, 1000.0, 1000.0 + waited]
    return make_job([1, 1, "{}", None, 0, 1, 25, None, None, 0, None, *times, None], "a", None)


def test_only_runs_that_came_to_an_end_are_counted() -> None:
    totals = TaskTotals()
    for outcome in (Completed(job()), Settled(job()), Failed(job(), "no"), Returned(job())):
        totals.add(job(), 0.5, outcome)
    assert totals.as_dict() == {
        "a": {
            "runs": 3,
            "failures": 1,
            "run_seconds": 1.5,
            "run_max": 0.5,
            "wait_seconds": 6.0,
            "wait_max": 2.0,
        }
    }


def test_a_job_knows_how_long_it_waited_whatever_its_times_came_as() -> None:
    assert job(3.0).waited == 3.0
    assert attrs.evolve(job(3.0)).waited == 3.0


def test_of_very_many_tasks_the_rest_is_told_together() -> None:
    """Each is told with every heartbeat, and with every sample."""
    totals = TaskTotals()
    for number in range(100_000):
        one = attrs.evolve(job(), task_identifier=f"task {number}")
        totals.add(one, 0.5, Completed(one))
    told = totals.as_dict()
    assert len(told) == 1001
    assert sum(total["runs"] for total in told.values()) == 100_000
    assert told[OTHER_TASKS]["runs"] == 99_000
