"""Any row that the tables can hold, whoever wrote it, beside good jobs: it ends none, and holds up none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_graphile import (
    Client,
    Database,
    JobContext,
    JobSpec,
    RecoveryOptions,
    ShutdownOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile._database import probe, stale_locks
from trio_graphile.hooks import FailWithBackoff, Hooks, JobToRecover
from trio_graphile.plugins.logging import Logging
from trio_graphile.testing import TemplateDatabases

PATIENCE = 30
GOOD = 3
NOT_THERE = 99_999

SMALLINTS = st.sampled_from([-32768, -1000, -1, 0, 1, 2, 24, 32766, 32767])
TIMES = st.sampled_from(
    [
        "now",
        "infinity",
        "-infinity",
        "4713-12-01 BC",
        "0001-01-01 BC",
        "0001-01-01",
        "1969-12-31 23:59:59.999999+00",
        "9999-12-31 23:59:59.9999999+00",
        "10000-01-01",
        "294276-12-31 23:59:59.999999+00",
    ]
)
DEEP = ["[" * 1100 + "]" * 1100, '{"a":' * 3000 + "1" + "}" * 3000]
ODD_JSON = ["1e400", "-0", "9" * 5000, '{"a":1,"a":2}', '{"":0}', '"x"', "5", "null", "[]", "{}", *DEEP]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXTS, part, max_size=3),
    max_leaves=8,
)
JSON = st.sampled_from(ODD_JSON) | VALUES.map(partial(json.dumps, ensure_ascii=False))
PAYLOADS = JSON | st.sampled_from(['"\\ud800"', '{"a":"\\u0000"}', ' [ 1 , "\\udfff" ] '])
FLAGS = st.none() | JSON.filter(lambda text: "\\u0000" not in text and "e400" not in text)
TASKS = st.sampled_from(["odd", "thread", "batch", "none", "failing", "snoozing", "foreign", None])
HOLDERS = st.none() | st.sampled_from(["trio_graphile_dead", "a worker in Node", ""])


@attrs.frozen(kw_only=True)
class Row:
    """What stands in one row of the jobs, and in that of its queue."""

    task: str | None
    """None is a task that has no row."""
    payload: str
    flags: str | None
    priority: int
    attempts: int
    max_attempts: int
    revision: int
    key: str | None
    last_error: str | None
    run_at: str
    created_at: str
    updated_at: str
    locked_at: str | None
    locked_by: str | None
    queue: str | None
    """The empty string is a queue that has no row."""
    queue_locked_at: str | None
    queue_locked_by: str | None


ROWS = st.builds(
    Row,
    task=TASKS,
    payload=PAYLOADS,
    flags=FLAGS,
    priority=SMALLINTS,
    attempts=SMALLINTS,
    max_attempts=SMALLINTS.filter(lambda number: number > 0),
    revision=st.sampled_from([-(2**31), 0, 2**31 - 1]),
    key=st.none() | TEXTS.filter(bool),
    last_error=st.none() | TEXTS | st.just("x" * 1_000_000),
    run_at=TIMES,
    created_at=TIMES,
    updated_at=TIMES,
    locked_at=st.none() | TIMES,
    locked_by=HOLDERS,
    queue=st.none() | TEXTS,
    queue_locked_at=st.none() | TIMES,
    queue_locked_by=HOLDERS,
)

INSERT_TASK = """
    insert into graphile_worker._private_tasks (identifier) values ($1::text)
    on conflict (identifier) do update set identifier = excluded.identifier
    returning id
"""
INSERT_QUEUE = """
    insert into graphile_worker._private_job_queues (queue_name, locked_at, locked_by)
    values ($1::text, $2::text::timestamptz, $3::text)
    on conflict (queue_name) do update set locked_by = excluded.locked_by
    returning id
"""
INSERT_JOB = """
    insert into graphile_worker._private_jobs (
      task_id, job_queue_id, payload, flags, priority, attempts, max_attempts, revision, key, last_error,
      run_at, created_at, updated_at, locked_at, locked_by
    ) values (
      $1::integer, $2::integer, $3::text::json, $4::text::jsonb, $5::smallint, $6::smallint, $7::smallint,
      $8::integer, $9::text, $10::text, $11::text::timestamptz, $12::text::timestamptz,
      $13::text::timestamptz, $14::text::timestamptz, $15::text
    )
    on conflict (key) do nothing
    returning id
"""


async def insert(database: Database, row: Row) -> int | None:
    """Write a row as no function of the schema would."""
    task_id, queue_id = NOT_THERE, None if row.queue is None else NOT_THERE
    if row.task is not None:
        task_id = await database.fetch_value(INSERT_TASK, row.task)
    if row.queue:
        queue_id = await database.fetch_value(
            INSERT_QUEUE, row.queue, row.queue_locked_at, row.queue_locked_by
        )
    values = attrs.astuple(row, filter=lambda field, _: field.name not in OF_OTHER_TABLES)
    job_id: int | None = await database.fetch_value(INSERT_JOB, task_id, queue_id, *values)
    return job_id


OF_OTHER_TABLES = {"task", "queue", "queue_locked_at", "queue_locked_by"}


class Undecided:
    """Wants every other job of a dead worker to have failed."""

    def register(self, hooks: Hooks, /) -> None:
        @hooks.recover_job
        async def recover(about: JobToRecover) -> FailWithBackoff | None:
            return FailWithBackoff() if about.job.id % 2 else None


def registry(ran: list[int]) -> TaskRegistry:
    tasks = TaskRegistry()

    @tasks.task("good")
    async def good(number: int, context: JobContext) -> None:
        ran.append(number)

    @tasks.task("odd")
    async def odd(payload: Any, context: JobContext) -> None:
        str(context.job.run_at), repr(context.job), payload  # all of it can be looked at

    @tasks.task("thread")
    def thread(payload: dict[str, int]) -> None: ...

    @tasks.batch_task("batch", retry=[1, 2])
    async def batch(items: list[Any]) -> list[Exception]:
        return [ValueError("not this one") for _ in items]

    @tasks.task("none")
    async def none() -> None: ...

    @tasks.task("failing")
    async def failing() -> None:
        raise ValueError("no such luck")

    @tasks.task("snoozing", retry=[1, 2, 3])
    async def snoozing(payload: list[int]) -> None: ...

    return tasks


async def look(database: Database, client: Client, ids: Sequence[int]) -> None:
    """Look at everything as commands and pages do, and change what can be changed."""
    for listed in (await client.jobs()).jobs:
        str(listed)
        str(await client.job(listed.job.id))
    str(await client.known_tasks())
    str(await client.queues())
    str(await client.workers())
    str(await client.backlog())
    str(await client.list_active_workers())
    str(await probe.probe_queue(database, alive={}, tasks=[]))
    str(await client.sweep_stale_workers(dry_run=True))


async def change(client: Client, ids: Sequence[int]) -> None:
    str(await client.reschedule_jobs(ids[:2], priority=1))
    str(await client.cancel_jobs(ids[:1]))
    str(await client.permanently_fail_jobs(ids[1:2]))
    str(await client.complete_jobs(ids[2:3]))
    await client.cleanup()


async def check(databases: TemplateDatabases, rows: Sequence[Row], *, changed: bool) -> None:
    ran: list[int] = []
    tasks = registry(ran)
    async with databases.clone() as url, open_database(url) as database:
        client = Client(database, tasks)
        ids = [id_ for row in rows if (id_ := await insert(database, row)) is not None]
        for number in range(GOOD):
            await client.add_raw_job("good", number, JobSpec(queue_name=None if number else "a good queue"))
        await look(database, client, ids)
        if changed:
            await change(client, ids)
        await stale_locks.reset_stale_locks(database)
        worker = Worker(
            database,
            tasks,
            WorkerOptions(
                concurrency=3,
                poll_interval=0.05,
                forbidden_flags=["no row has this one"],
                recovery=RecoveryOptions(sweep_interval=0.1, recovery_delay=0.0),
                shutdown=ShutdownOptions(grace_period=5, flush_timeout=30),
            ),
            plugins=[Logging(), Undecided()],
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(worker.run)
            with trio.fail_after(PATIENCE):
                while len(ran) < GOOD or worker.statistics().busy or worker.statistics().unrecorded:
                    await trio.testing.wait_all_tasks_blocked(0.01)
            await look(database, client, ids)
            worker.stop()
        await client.sweep_stale_workers()
        await check_end(database, worker.worker_id)
        assert sorted(ran) == list(range(GOOD))


async def check_end(database: Database, worker_id: str) -> None:
    """Nothing is locked by the worker, and nothing of a dead one that was gone for long."""
    locked = await database.fetch_value(
        """
        select string_agg(distinct locks.locked_by, ', ')
        from (
          select locked_by, locked_at from graphile_worker._private_jobs
          union all
          select locked_by, locked_at from graphile_worker._private_job_queues
        ) as locks
        where locks.locked_at is not null
          and locks.locked_by in ($1::text, 'trio_graphile_dead')
        having bool_or(locks.locked_by = $1::text) or max(locks.locked_at) < now() - interval '1 hour'
        """,
        worker_id,
    )
    assert locked is None, locked


GIVEN = given(rows=st.lists(ROWS, min_size=1, max_size=6), changed=st.booleans())
BOUNDED = partial(settings, suppress_health_check=list(HealthCheck), deadline=None)


@GIVEN
@BOUNDED(max_examples=12)
def test_no_row_ends_a_worker(databases: TemplateDatabases, rows: list[Row], changed: bool) -> None:  # noqa: FBT001
    trio.run(partial(check, databases, rows, changed=changed))


@pytest.mark.exhaustive
@GIVEN
@BOUNDED(max_examples=400)
def test_none_of_many_rows_ends_a_worker(
    databases: TemplateDatabases,
    rows: list[Row],
    changed: bool,  # noqa: FBT001
) -> None:
    trio.run(partial(check, databases, rows, changed=changed))
