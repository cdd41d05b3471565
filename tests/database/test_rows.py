"""Jobs made of rows: what they are, whoever wrote the rows, and that they are jobs as any other."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import attrs
import pytest

from trio_graphile import Connection, Job, JobSpec
from trio_graphile._database import inspection, rows

INSERT = """
    with task as (
      insert into graphile_worker._private_tasks (identifier) values ('send') returning id
    ),
    queue as (
      insert into graphile_worker._private_job_queues (queue_name) values ('mail') returning id
    )
    insert into graphile_worker._private_jobs (
      task_id, job_queue_id, payload, flags, priority, attempts, max_attempts, revision, key, last_error,
      run_at, created_at, updated_at, locked_at, locked_by
    )
    select task.id, queue.id, '{"a":  1}', '{"x": true}', 1, 2, 3, 4, 'k', 'no',
      to_timestamp(5.25), to_timestamp(6.000001), to_timestamp(7), to_timestamp(8), 'worker'
    from task, queue
    returning id
"""


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def as_given(job_id: int) -> Job:
    """Return the job of `INSERT`, with its times as such."""
    return Job(
        id=job_id,
        task_identifier="send",
        payload_json='{"a":  1}',
        queue_name="mail",
        priority=1,
        run_at=at(5.25),
        attempts=2,
        max_attempts=3,
        last_error="no",
        created_at=at(6.000001),
        updated_at=at(7),
        key="k",
        revision=4,
        flags=("x",),
        locked_at=at(8),
        locked_by="worker",
    )


async def test_each_column_is_read_into_its_field(connection: Connection) -> None:
    job_id = await connection.fetch_value(INSERT)
    [listed] = (await inspection.get_listed(connection, [job_id])).values()
    assert attrs.asdict(listed.job) == attrs.asdict(as_given(job_id))


def from_row() -> Job:
    """Return the job of `INSERT` as a claim would make it."""
    times = (5.25, 6.000001, 7.0, 8.0)
    row = (9, 1, '{"a":  1}', "mail", 1, 2, 3, "no", "k", 4, '{"x": true}', *times, None)
    [job] = rows.claimed_jobs([row], "worker", ["send"])
    return job


def test_a_job_of_a_row_is_a_job_as_any_other() -> None:
    assert type(from_row()) is Job
    assert from_row() == as_given(9)
    assert as_given(9) == from_row()
    assert hash(from_row()) == hash(as_given(9))
    assert repr(from_row()) == repr(as_given(9))
    assert attrs.evolve(from_row(), attempts=3) == attrs.evolve(as_given(9), attempts=3)
    assert from_row() != attrs.evolve(as_given(9), created_at=at(6))


@pytest.mark.parametrize("job", [from_row(), as_given(9)])
def test_a_job_can_be_copied_and_pickled_but_not_changed(job: Job) -> None:
    assert pickle.loads(pickle.dumps(job)) == job  # our own
    assert copy.deepcopy(job) == copy.copy(job) == job
    for field in attrs.fields(Job):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(job, field.name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(job, field.name)


@pytest.mark.parametrize("job", [from_row(), as_given(9)])
def test_a_job_says_how_long_it_waited(job: Job) -> None:
    assert job.waited == 2.75
    assert attrs.evolve(job, locked_at=None).waited == 0.0


def test_a_job_that_was_added_has_what_its_spec_leaves_to_the_database() -> None:
    values = rows.values_as_added(JobSpec(), None, (5.0, 6.0, 7.0))
    assert rows.job_as_added(9, "send", "{}", values) == Job(
        id=9, task_identifier="send", payload_json="{}", run_at=at(5), created_at=at(6), updated_at=at(7)
    )


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (None, ()),
        ('{"a": true, "b": [1]}', ("a", "b")),
        ('["a", 1, null, ["b"], "c"]', ("a", "c")),
        ('"a"', ("a",)),
        ("null", ()),
        ("5", ()),
        ("{}", ()),
        ("9" * 5000, ()),
        ("[" * 3000 + "]" * 3000, ()),
    ],
)
def test_flags_are_what_postgresql_finds_in_them(text: str | None, flags: tuple[str, ...]) -> None:
    assert rows.flags_of(text) == flags
