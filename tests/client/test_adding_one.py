"""Adding a job."""

from __future__ import annotations

from datetime import datetime
from itertools import count

import pytest
import trio

from tests.client.tasks import ADA, KEYED, LATER, SOON, Welcome, send_welcome, tick
from tests.client.workers import lock
from tests.support.tables import stored
from trio_graphile import Client, Database, JobKeyMode, JobSpec
from trio_graphile.testing._points import ActAt


async def test_an_added_job_comes_back_as_it_is_stored(client: Client, database: Database) -> None:
    spec = JobSpec(
        queue_name="mail",
        run_at=SOON,
        max_attempts=3,
        job_key="welcome:ada",
        priority=-5,
        flags=["smtp", "eu", "smtp"],
    )
    job = await client.add_job(send_welcome, ADA, spec)
    assert (job.task_identifier, job.payload) == ("send_welcome", {"to": "ada@example.org", "locale": "en"})
    assert (job.queue_name, job.run_at, job.max_attempts, job.key) == ("mail", SOON, 3, "welcome:ada")
    assert (job.priority, job.flags, job.attempts, job.revision) == (-5, ("eu", "smtp"), 0, 0)
    assert (job.locked_at, job.locked_by, job.last_error) == (None, None, None)
    assert await stored(database) == [(job.id, "welcome:ada", job.payload_json)]


async def test_what_is_left_out_gets_the_database_s_default(client: Client, database: Database) -> None:
    now = await database.fetch_value("select now()")
    job = await client.add_job(send_welcome, ADA)
    assert (job.queue_name, job.priority, job.max_attempts, job.key, job.flags) == (None, 0, 25, None, ())
    assert job.run_at == job.created_at == job.updated_at
    assert job.run_at >= now


async def test_no_payload_is_stored_as_an_empty_object(client: Client) -> None:
    assert (await client.add_job(tick, None)).payload_json == "{}"
    assert (await client.add_raw_job("elsewhere")).payload_json == "{}"
    (job,) = await client.add_raw_jobs([("elsewhere", None)])
    assert job.payload_json == "{}"


async def test_a_raw_payload_is_stored_to_the_byte(client: Client) -> None:
    job = await client.add_raw_job("resize_in_node", {"b": 1, "a": [1.0, "é", 2**70, None]})
    assert job.payload_json == '{"b":1,"a":[1.0,"é",1180591620717411303424,null]}'
    assert job.payload == {"b": 1, "a": [1.0, "é", 2**70, None]}


async def test_one_key_added_four_times_is_one_job(client: Client, database: Database) -> None:
    revisions = [(await client.add_job(send_welcome, Welcome(to=str(n)), KEYED)).revision for n in range(4)]
    assert revisions == [0, 1, 2, 3]
    ((_, _, payload),) = await stored(database)
    assert payload == '{"to":"3","locale":"en"}'


async def test_adding_again_without_options_goes_back_to_the_defaults(client: Client) -> None:
    first = await client.add_job(
        send_welcome,
        ADA,
        JobSpec(job_key="k", queue_name="q", max_attempts=3, priority=5, run_at=SOON, flags=["f"]),
    )
    second = await client.add_raw_job("another", None, KEYED)
    assert second.id == first.id
    assert (second.task_identifier, second.queue_name, second.payload_json) == ("another", None, "{}")
    assert (second.max_attempts, second.priority, second.flags) == (25, 0, ())
    assert second.run_at < SOON


async def test_each_mode_does_what_it_says(client: Client) -> None:
    def spec(mode: str, run_at: datetime) -> JobSpec:
        return JobSpec(job_key="k", job_key_mode=JobKeyMode(mode), run_at=run_at)

    jobs = [
        await client.add_raw_job("t", "first", spec("replace", SOON)),
        await client.add_raw_job("t", "second", spec("preserve_run_at", LATER)),
        await client.add_raw_job("t", "third", spec("unsafe_dedupe", LATER)),
        await client.add_raw_job("t", "fourth", spec("replace", LATER)),
    ]
    assert [job.revision for job in jobs] == [0, 1, 2, 3]
    assert [job.payload for job in jobs] == ["first", "second", "second", "fourth"]
    assert [job.run_at for job in jobs] == [SOON, SOON, SOON, LATER]
    assert len({job.id for job in jobs}) == 1


async def test_deduplication_answers_with_the_job_that_is_there(client: Client) -> None:
    first = await client.add_job(send_welcome, ADA, JobSpec(job_key="k", queue_name="mail"))
    answer = await client.add_raw_job(
        "another", 1, JobSpec(job_key="k", job_key_mode=JobKeyMode.UNSAFE_DEDUPE, queue_name="other")
    )
    assert (answer.id, answer.task_identifier, answer.queue_name) == (first.id, "send_welcome", "mail")
    assert answer.payload_json == first.payload_json


async def test_adding_under_the_key_of_a_running_job_adds_another(client: Client, database: Database) -> None:
    first = await client.add_job(send_welcome, ADA, KEYED)
    await lock(database)
    second = await client.add_job(send_welcome, Welcome(to="eve"), KEYED)
    assert second.id != first.id
    assert [(job_id, key) for job_id, key, _ in await stored(database)] == [
        (first.id, None),
        (second.id, "k"),
    ]


async def test_two_adds_under_the_key_of_a_running_job_leave_one_waiting(
    client: Client, database: Database
) -> None:
    first = await client.add_job(send_welcome, ADA, KEYED)
    await lock(database)
    async with trio.open_nursery() as nursery:
        for name in ("eve", "bob"):
            nursery.start_soon(client.add_jobs, [(send_welcome, Welcome(to=name), KEYED)])
    rows = await stored(database)
    assert [key for _, key, _ in rows] == [None, "k"]
    assert rows[0][0] == first.id


@pytest.mark.parametrize("name", ["known", "new {}"])
async def test_a_job_is_added_or_not_wherever_that_is_cancelled_and_says_which(
    client: Client, database: Database, name: str
) -> None:
    """A new task's first job takes a second statement."""
    await client.add_raw_job("known")
    for point in count(1):
        before = len(await stored(database))
        added = []
        with trio.move_on_after(60) as scope, ActAt(point, scope.cancel).installed():
            added.append(await client.add_raw_job(name.format(point)))
        assert len(await stored(database)) - before == len(added)
        if not scope.cancel_called:
            break
    assert point > 1
