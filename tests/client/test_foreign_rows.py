"""Adding many jobs where triggers and functions of others answer with other rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trio_graphile import Client, Database, JobSpec, StatementFailed
from trio_graphile._database.adding.answer import other_rows


@pytest.mark.parametrize(
    "given",
    [
        [("t", 1), ("t", 2)],
        [("t", 1), ("u", 2)],
        [("t", 1, JobSpec(job_key="a")), ("t", 2, JobSpec(job_key="b"))],
    ],
)
async def test_rows_that_a_trigger_keeps_out_are_missed(
    client: Client, database: Database, given: Any
) -> None:
    await client.add_raw_job("t")
    await database.execute(KEEP_OUT_TWO)
    with pytest.raises(StatementFailed, match=r"asked for 2 jobs, but .*1 "):
        await client.add_raw_jobs(given)
    assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 1


async def test_ids_are_those_of_what_was_asked_whatever_the_order_of_the_rows(
    client: Client, database: Database
) -> None:
    """Other programs have functions of their own, which may answer in another order."""
    await database.execute(ANSWER_BACKWARDS)
    soon = datetime.now(UTC) + timedelta(hours=1)
    specs = [
        JobSpec(job_key="k1", queue_name="q"),
        JobSpec(job_key="k2"),
        JobSpec(),
        JobSpec(),
        JobSpec(priority=3),
        JobSpec(queue_name="q"),
        JobSpec(run_at=soon),
        JobSpec(flags=["b", "a"]),
        JobSpec(max_attempts=3),
    ]
    given = [("t", n // 2, spec) for n, spec in enumerate(specs)]
    given += [("u", n // 2, spec) for n, spec in enumerate(specs) if spec.job_key is None]
    for _ in range(2):  # the second time all names are known
        added = await client.add_raw_jobs(given)
        for (task, payload, spec), job in zip(given, added, strict=True):
            row = await database.fetch_row("select * from graphile_worker.jobs where id = $1::bigint", job.id)
            assert row is not None
            assert (row["task_identifier"], row["queue_name"]) == (task, spec.queue_name)
            assert row["key"] == spec.job_key
            assert (row["priority"], row["max_attempts"]) == (spec.priority or 0, spec.max_attempts or 25)
            assert (job.task_identifier, job.payload, job.key) == (task, payload, spec.job_key)
            assert set(row["flags"] or ()) == set(spec.flags or ())
            assert spec.run_at in (None, row["run_at"])
        assert len({job.id for job in added}) == len(given)


async def test_keyed_jobs_are_told_apart_by_their_keys_whatever_the_order_of_the_rows(
    client: Client, database: Database
) -> None:
    await client.add_raw_job("t", [0], JobSpec(job_key="b"))
    await database.execute(ANSWER_BACKWARDS)
    given = [("t", [key], JobSpec(job_key=key, flags=["f"] if key == "c" else None)) for key in "abc"]
    added = await client.add_raw_jobs(given)
    assert [(job.key, job.payload, job.revision, job.flags) for job in added] == [
        ("a", ["a"], 0, ()),
        ("b", [0, "b"], 1, ()),
        ("c", ["c"], 0, ("f",)),
    ]
    for job in added:
        listed = await client.job(job.id)
        assert listed is not None
        assert listed.job == job


def test_one_job_is_one() -> None:
    assert str(other_rows(1, 0)).startswith("asked for 1 job, but the 0 that came back are others")


async def test_an_addition_that_answers_with_other_jobs_is_undone(client: Client, database: Database) -> None:
    await database.execute(ANSWER_BACKWARDS.replace("spec.priority", "7"))
    with pytest.raises(StatementFailed, match=r"asked for 2 jobs, but the 2 that came back are others"):
        await client.add_raw_jobs([("t", 1), ("u", 2)])
    assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 0


ANSWER_BACKWARDS = """
    create or replace function graphile_worker.add_jobs(
      specs graphile_worker.job_spec[], job_key_preserve_run_at boolean default false
    ) returns setof graphile_worker._private_jobs language plpgsql as $$
    declare
      spec graphile_worker.job_spec;
      added graphile_worker._private_jobs[];
    begin
      foreach spec in array specs loop
        added := graphile_worker.add_job(
          spec.identifier, spec.payload, spec.queue_name, spec.run_at, spec.max_attempts, spec.job_key,
          spec.priority, spec.flags
        ) || added;
      end loop;
      return query select * from unnest(added);
    end $$
"""
KEEP_OUT_TWO = """
    create function keep_out_two() returns trigger language plpgsql as $$
    begin
      return case when new.payload::text <> '2' then new end;
    end
    $$;
    create trigger keep_out_two before insert on graphile_worker._private_jobs
      for each row execute function keep_out_two();
"""
