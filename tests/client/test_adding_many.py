"""Adding many jobs in one call."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs
import pytest
import trio

from tests.client.tasks import ADA, KEYED, LATER, SOON, Welcome, index, send_welcome, tasks
from tests.support.tables import stored
from trio_graphile import (
    Client,
    Database,
    DuplicateJobKey,
    JobKeyMode,
    JobSpec,
    OptionInvalid,
    PayloadInvalid,
    open_database,
)
from trio_graphile._database.claiming import claims
from trio_graphile._model.json import decode

ODD_FLAGS = ["", " ", "NULL", 'quotes " and \\', "{a,b}", "é"]


async def test_many_jobs_come_back_in_their_order_with_all_that_is_theirs(client: Client) -> None:
    specs = [
        JobSpec(
            queue_name=f"q{n % 3}" if n % 2 else None,
            priority=n,
            flags=[f"f{n}", *ODD_FLAGS] if n % 5 else [],
        )
        for n in range(20)
    ]
    jobs = await client.add_jobs([(send_welcome, Welcome(to=str(n)), spec) for n, spec in enumerate(specs)])
    assert [job.payload["to"] for job in jobs] == [str(n) for n in range(20)]
    assert [job.queue_name for job in jobs] == [spec.queue_name for spec in specs]
    assert [job.priority for job in jobs] == list(range(20))
    assert {job.task_identifier for job in jobs} == {"send_welcome"}
    assert [job.id for job in jobs] == sorted(job.id for job in jobs)


async def test_what_many_jobs_return_is_what_the_table_holds(client: Client, database: Database) -> None:
    jobs = await client.add_raw_jobs(
        [
            (
                "a",
                {"n": 1},
                JobSpec(flags=["long one", "b", "a"], queue_name="q", run_at=SOON, max_attempts=2),
            ),
            ("b", [1, 2], JobSpec(job_key="k", priority=3)),
            ("a", None),
        ]
    )
    await database.execute("update graphile_worker._private_jobs set run_at = now() where run_at > now()")
    claimed = sorted(await claims.get_jobs(database, "w", ["a", "b"], 10), key=lambda job: job.id)
    unclaimed = [
        attrs.evolve(job, locked_at=None, locked_by=None, attempts=0, run_at=added.run_at)
        for job, added in zip(claimed, jobs, strict=True)
    ]
    assert unclaimed == jobs


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec(),
        JobSpec(run_at=SOON, max_attempts=3, priority=-5, flags=["smtp", "eu", "smtp"]),
        JobSpec(flags=ODD_FLAGS),
        JobSpec(flags=[]),
        JobSpec(job_key_mode=JobKeyMode.PRESERVE_RUN_AT),
    ],
)
async def test_jobs_are_the_same_whether_the_schemas_function_adds_them_or_we_do(
    client: Client, database: Database, spec: JobSpec
) -> None:
    by_function = await client.add_job(send_welcome, ADA, spec)  # since its task is new
    one = await client.add_job(send_welcome, Welcome(to="0"), spec)
    many = await client.add_jobs([(send_welcome, Welcome(to=str(n)), spec) for n in range(1, 4)])
    ours = [one, *many]
    assert [job.payload["to"] for job in ours] == ["0", "1", "2", "3"]
    assert [job.id - by_function.id for job in ours] == [1, 2, 3, 4]
    for job in ours:
        assert job.created_at == job.updated_at
        same = attrs.evolve(by_function, id=job.id, payload_json=job.payload_json, created_at=job.created_at)
        same = attrs.evolve(same, updated_at=job.updated_at, run_at=spec.run_at or job.created_at)
        assert job == same
    rows = await database.fetch(
        """
        select jobs.payload::text, jobs.priority, jobs.max_attempts, jobs.flags::text, jobs.attempts,
          jobs.key, jobs.task_id, jobs.job_queue_id, jobs.revision, jobs.is_available,
          jobs.run_at = jobs.created_at as is_due_at_once
        from graphile_worker._private_jobs as jobs
        order by jobs.id
        """
    )
    assert len({tuple(row.values())[1:] for row in rows}) == 1
    assert [row["payload"] for row in rows[1:]] == [job.payload_json for job in ours]


@pytest.mark.parametrize("given", [[("t", 1), ("t", 2), ("t", 3)], [("t", 1), ("u", 2), ("t", 3)]])
async def test_many_jobs_are_announced_once(client: Client, database: Database, given: Any) -> None:
    await client.add_raw_job("t")
    announced, heard = [], trio.Event()

    def hear(payload: str) -> None:
        announced.append(decode(payload)["count"])
        if len(announced) == 2:
            heard.set()

    async with database.connection() as connection:
        await connection.listen("jobs:insert", hear)
        await client.add_raw_jobs(given)
        await client.add_raw_job("t")
        await heard.wait()
    assert announced == [3, 1]


async def test_added_jobs_are_a_sequence(client: Client) -> None:
    added = await client.add_raw_jobs([("t", n) for n in range(5_000)])
    assert len(added) == 5_000
    assert [job.payload for job in added] == list(range(5_000))
    assert added[0] is added[0]
    assert [job.payload for job in added[-2:]] == [4_998, 4_999]
    assert added[1] in added
    assert added == list(added)
    assert added != list(added)[1:]
    assert added != "added"
    assert repr(added).startswith("AddedJobs([Job(id=1, task_identifier='t'")
    with pytest.raises(IndexError):
        added[5_000]
    assert not await client.add_raw_jobs([])


async def test_mixed_modes_in_one_call_are_each_honoured(client: Client) -> None:
    def specs(run_at: datetime) -> list[JobSpec]:
        preserve = JobKeyMode.PRESERVE_RUN_AT
        return [
            JobSpec(job_key="a", run_at=run_at, job_key_mode=preserve),
            JobSpec(job_key="b", run_at=run_at),
            JobSpec(job_key="c", run_at=run_at, job_key_mode=preserve),
            JobSpec(run_at=run_at, job_key_mode=preserve),
        ]

    await client.add_raw_jobs([("t", n, spec) for n, spec in enumerate(specs(SOON))])
    jobs = await client.add_raw_jobs([("t", n, spec) for n, spec in enumerate(specs(LATER))])
    assert [job.payload for job in jobs] == [0, 1, 2, 3]
    assert [job.key for job in jobs] == ["a", "b", "c", None]
    assert [job.run_at for job in jobs] == [SOON, LATER, SOON, LATER]


async def test_arrays_under_one_key_are_joined(client: Client, database: Database) -> None:
    await client.add_batch_job(index, [1], KEYED)
    await client.add_batch_job(index, (n for n in [2]), KEYED)
    (job,) = await client.add_jobs([(index, [3], KEYED)])
    assert job.payload == [1, 2, 3]
    assert len(await stored(database)) == 1


async def test_adding_nothing_does_not_touch_the_database(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        client = Client(database, tasks)
        assert await client.add_jobs([]) == []
        assert await client.add_raw_jobs([]) == []
        assert (await client.complete_jobs([])).jobs == ()
        assert (await client.permanently_fail_jobs([])).jobs == ()
        assert (await client.reschedule_jobs([], priority=0)).jobs == ()


async def test_one_key_twice_in_one_call_is_refused_before_anything_is_sent(
    client: Client, database: Database
) -> None:
    with pytest.raises(DuplicateJobKey, match="'k' stands twice"):
        await client.add_jobs([(send_welcome, ADA, KEYED), (send_welcome, ADA, KEYED)])
    assert await stored(database) == []


async def test_deduplication_cannot_be_had_for_many(client: Client) -> None:
    with pytest.raises(OptionInvalid, match=r"job_key_mode: .*add_job") as caught:
        await client.add_raw_jobs([("t", 1), ("t", 2, JobSpec(job_key_mode=JobKeyMode.UNSAFE_DEDUPE))])
    assert caught.value.option == "job_key_mode"


async def test_one_wrong_payload_keeps_all_from_being_added(client: Client, database: Database) -> None:
    with pytest.raises(PayloadInvalid):
        await client.add_raw_jobs([("t", 1), ("t", float("nan"))])
    assert await stored(database) == []
