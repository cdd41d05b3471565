"""A database with rows in every state, and one text wherever somebody else's text can stand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import attrs

from trio_graphile import Client, Database, JobSpec

HOSTILE = (
    '<img src=x onerror=window.pwned=1>"><script>window.pwned=1</script>'
    "\u202e\x1b{{7*7}}'javascript:pwned=1//"
)
"""Not longer than a name of a queue can be, a few letters more included."""

SET_STATES = """
    with worked as (
      update graphile_worker._private_jobs as jobs
      set
        attempts = 1,
        locked_at = now() - interval '1 minute',
        locked_by = case jobs.id when $1::bigint then $3::text else $4::text end
      where jobs.id in ($1::bigint, $2::bigint)
      returning jobs.job_queue_id, jobs.locked_by
    )
    update graphile_worker._private_job_queues as queues
    set locked_at = now() - interval '1 minute', locked_by = worked.locked_by
    from worked
    where worked.job_queue_id = queues.id
"""
ADD_WORKER = """
    insert into graphile_worker._private_workers (id, last_heartbeat_at, started_at, metadata)
    values ($1::text, now() - $2::interval, now() - interval '9 hours', $3::text::jsonb)
"""
ADD_CRONTAB = """
    insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
    values ($1::text, now() - interval '3 days', now() - interval '1 hour')
"""
ADD_SAMPLES = """
    insert into graphile_worker.trio_graphile_samples
      (minute, ready, scheduled, locked, failed, oldest_ready, inserted, deleted, tasks)
    select
      date_trunc('minute', now()) - step * interval '1 minute',
      40 + step * 7 % 23, 3, 18, 3 + (60 - step) / 12, 12.5,
      100000 - step * 230 - step * 37 % 60, 90000 - step * 225 - step * 31 % 70,
      jsonb_build_object($1::text, jsonb_build_object(
        'runs', 200 + step * 31 % 70, 'failures', step % 9,
        'run_seconds', 90.5 + step % 5 * 20, 'run_max', 4.5, 'wait_seconds', 20 + step % 7 * 9
      ))
    from generate_series(1, 59) as step
    on conflict (minute) do nothing
"""
"""An admin that has started in the minute before may have taken a sample of its own."""


@attrs.frozen(kw_only=True)
class Rows:
    """The jobs that were added."""

    ready: int
    waiting: int
    """Behind the running one of its queue."""
    scheduled: int
    running: int
    abandoned: int
    """In the name of a worker that is dead."""
    failed: tuple[int, ...]
    alive: str
    dead: str


async def fill(database: Database, text: str = "") -> Rows:
    """Add what there can be to see."""
    client, queue = Client(database), f"emails{text}"
    welcome, resize = f"send_welcome{text}", f"resize{text}"
    later = datetime.now(UTC) + timedelta(hours=3)

    async def add(task: str, payload: object, spec: JobSpec | None = None) -> int:
        return (await client.add_raw_job(task, payload, spec)).id

    rows = Rows(
        running=await add(welcome, {"to": f"ada{text}"}, JobSpec(queue_name=queue)),
        abandoned=await add(resize, {"path": f"{text}.png"}, JobSpec(queue_name=f"images{text}")),
        waiting=await add(welcome, {"to": text, text or "n": [1, None]}, JobSpec(queue_name=queue)),
        ready=await add(resize, ["a"], JobSpec(job_key=f"key{text}", priority=-1, flags=[f"big{text}"])),
        scheduled=await add(welcome, {"to": "bob", "password": "secret"}, JobSpec(run_at=later)),
        failed=tuple([await add(resize, {"number": number}) for number in range(3)]),
        alive=f"worker-1{text}",
        dead=f"worker-2{text}",
    )
    await client.permanently_fail_jobs(rows.failed[:2], f"disk 1 is full{text}\nat line 2")
    await client.permanently_fail_jobs(rows.failed[2:], "no such file")
    await database.execute(SET_STATES, rows.running, rows.abandoned, rows.alive, rows.dead)
    await _add_workers(database, rows, text)
    await database.execute(ADD_CRONTAB, f"nightly{text}")
    await database.execute(ADD_SAMPLES, welcome)
    return rows


async def _add_workers(database: Database, rows: Rows, text: str) -> None:
    task = f"send_welcome{text}"
    running = [
        {"id": rows.running, "task_identifier": task, "seconds": 61.5, "progress": {"done": text or 3}}
    ]
    statistics = {
        "slots": 20,
        "busy": 1,
        "held": 1,
        "completed": 12_345,
        "failed": 3,
        "running": running,
        "tasks": {task: {"runs": 90, "failures": 3, "run_seconds": 30.5, "run_max": 4.0}},
    }
    said = {"pid": 7, "host": f"host{text}", "version": f"1{text}", "concurrency": 20, "tasks": [task]}
    metadata = json.dumps(said | {"statistics": statistics})
    await database.execute(ADD_WORKER, rows.alive, timedelta(seconds=3), metadata)
    await database.execute(ADD_WORKER, rows.dead, timedelta(hours=2), json.dumps(said))
