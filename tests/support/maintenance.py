"""Maintenance that has something to do soon after a worker has started."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import trio

from trio_graphile import Client, Job, JobSpec
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._worker import looks
from trio_graphile._worker.sweeper import Sweeper

DEAD = "a worker that died"
"""Who was registered an hour ago, and has not been heard of since."""

DIE = """
    with worker as (
      insert into graphile_worker._private_workers (id, last_heartbeat_at, started_at, metadata)
      values ($1::text, now() - interval '1 hour', now() - interval '2 hours', '{}'::jsonb)
      on conflict (id) do update set last_heartbeat_at = excluded.last_heartbeat_at
    ),
    queue as (
      update graphile_worker._private_job_queues
      set locked_by = $1::text, locked_at = now() - interval '1 hour'
      where id = (
        select jobs.job_queue_id
        from graphile_worker._private_jobs as jobs
        where jobs.id = $2::bigint
      )
    )
    update graphile_worker._private_jobs
    set locked_by = $1::text, locked_at = now() - interval '1 hour', attempts = attempts + 1
    where id = $2::bigint
"""  # $1 worker id, $2 a job that it ran


async def add_what_chores_find(client: Client) -> None:
    """Add jobs of which the third, forgotten by the claim, is in a queue, and one that a dead worker has."""
    await client.add_raw_jobs(
        [("brief", None, JobSpec(priority=-1))] * 2
        + [("brief", None, JobSpec(priority=-1, queue_name="a"))] * 2
        + [("endless", None)]
    )
    job = await client.add_raw_job("brief", None, JobSpec(queue_name="b"))
    await client.database.execute(DIE, DEAD, job.id)


def have_chores_done_at_once(patch: pytest.MonkeyPatch, *, every: float = 0.1) -> None:
    """Have each chore be due at once, and again after so many seconds."""
    chores_of = Sweeper._chores  # no option sets when they are due

    def due_at_once(sweeper: Sweeper) -> Any:
        chores = chores_of(sweeper)
        for chore in chores:
            chore.due_at, chore.interval = trio.current_time(), every
        return chores

    patch.setattr(Sweeper, "_chores", due_at_once)
    patch.setattr(looks, "LARGEST_SHARE", 1.0)


def have_the_first_claim_forget(patch: pytest.MonkeyPatch) -> None:
    """Have the first claim that brings several jobs lose the last of them, after it was locked."""
    claim, forgotten = Claimer.claim, list[Job]()

    async def forgetful(claimer: Claimer, limit: int, rules: Any, unended: Iterable[str]) -> list[Job]:
        jobs = await claim(claimer, limit, rules, unended)
        if not forgotten and len(jobs) > 1:
            forgotten.append(jobs.pop())
        return jobs

    patch.setattr(Claimer, "claim", forgetful)
