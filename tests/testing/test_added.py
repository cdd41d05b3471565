"""What waits in the queue, and how a test is told that it is not what it expected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from trio_graphile import Client, Database, JobSpec, OptionInvalid, TaskRegistry
from trio_graphile.testing import added_jobs, assert_added
from trio_graphile.testing._added import PAGE_SIZE

tasks = TaskRegistry()
LATER = datetime(2999, 1, 1, tzinfo=UTC)


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"
    tags: list[str] = attrs.field(factory=list)


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome) -> None: ...


@tasks.task("tidy")
async def tidy() -> None: ...


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database, tasks)


async def failed(client: Client, *expected: object) -> str:
    with pytest.raises(AssertionError) as raised:
        await assert_added(client, *expected)  # type: ignore[call-overload]
    return str(raised.value)


async def test_jobs_come_in_the_order_of_their_addition_with_typed_payloads(client: Client) -> None:
    later = await client.add_job(send_welcome, Welcome(to="ada"), JobSpec(run_at=LATER))
    await client.add_job(tidy, None)
    urgent = await client.add_job(send_welcome, Welcome(to="grace"), JobSpec(priority=-5))
    waiting = await added_jobs(client, send_welcome)
    assert [each.payload.to for each in waiting] == ["ada", "grace"]
    assert [each.job.id for each in waiting] == [later.id, urgent.id]
    assert [each.job.task_identifier for each in await added_jobs(client)] == [
        "send_welcome",
        "tidy",
        "send_welcome",
    ]


async def test_by_an_identifier_payloads_are_plain_values(client: Client, database: Database) -> None:
    await client.add_job(send_welcome, Welcome(to="ada"))
    [waiting] = await added_jobs(database, "send_welcome")
    assert waiting.payload == {"to": "ada", "locale": "en", "tags": []}


async def test_jobs_that_run_or_have_failed_do_not_wait(client: Client, database: Database) -> None:
    failed, locked, waiting = await client.add_raw_jobs([("tidy", None)] * 3)
    await client.permanently_fail_jobs([failed.id])
    lock = "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'w' where id = $1"
    await database.execute(lock, locked.id)
    assert [each.job.id for each in await added_jobs(client)] == [waiting.id]


async def test_no_page_is_left_out(client: Client) -> None:
    numbers = range(2 * PAGE_SIZE + 1)
    await client.add_raw_jobs([("tidy", {"number": number}) for number in numbers])
    assert [each.payload["number"] for each in await added_jobs(client)] == [*numbers]


async def test_a_client_of_a_transaction_sees_what_it_has_added(client: Client, database: Database) -> None:
    async with database.transaction() as connection:
        await client.using(connection).add_job(tidy, None)
        await assert_added(client.using(connection), tidy, None)
        assert await added_jobs(client) == []


async def test_a_job_that_is_as_expected_is_returned(client: Client) -> None:
    await client.add_job(send_welcome, Welcome(to="ada"))
    spec = JobSpec(queue_name="mail", run_at=LATER, max_attempts=3, job_key="k", priority=5, flags=["b", "a"])
    job = await client.add_job(send_welcome, Welcome(to="grace"), spec)
    assert (await assert_added(client, send_welcome, Welcome(to="grace"), spec)).job.id == job.id
    found = await assert_added(client, send_welcome, Welcome(to="grace"), JobSpec(queue_name="mail"))
    assert found.payload == Welcome(to="grace")


async def test_rows_of_an_older_program_are_compared_by_what_they_mean(client: Client) -> None:
    await client.add_raw_job("send_welcome", {"to": "ada"})
    await assert_added(client, send_welcome, Welcome(to="ada"))
    with pytest.raises(AssertionError):
        await assert_added(client, "send_welcome", {"to": "ada", "locale": "en"})
    await assert_added(client, "send_welcome", {"to": "ada"})


async def test_what_is_different_is_shown_place_by_place(client: Client) -> None:
    job = await client.add_job(send_welcome, Welcome(to="ada", tags=["a", "b"]), JobSpec(flags=["x"]))
    expected = Welcome(to="ada", locale="nl", tags=["a", "c", "d"])
    spec = JobSpec(queue_name="mail", priority=0, flags=["y"], job_key="k")
    assert await failed(client, send_welcome, expected, spec) == "\n".join(
        [
            "no job of 'send_welcome' waits that is as expected",
            f"  job {job.id}:",
            "    payload.locale: expected 'nl', found 'en'",
            "    payload.tags[1]: expected 'c', found 'b'",
            "    payload.tags[2]: expected 'd', found nothing",
            "    queue_name: expected 'mail', found None",
            "    job_key: expected 'k', found None",
            "    flags: expected ['y'], found ['x']",
        ]
    )


async def test_values_of_different_types_are_different(client: Client) -> None:
    await client.add_raw_job("tidy", {"a": 1, "b": None})
    text = await failed(client, "tidy", {"a": True})
    assert "payload.a: expected True, found 1" in text
    assert "payload.b: expected nothing, found None" in text


async def test_the_job_that_differs_least_comes_first(client: Client) -> None:
    await client.add_jobs([(send_welcome, Welcome(to=str(number), locale="de")) for number in range(7)])
    lines = (await failed(client, send_welcome, Welcome(to="6"))).splitlines()
    assert lines[2] == "    payload.locale: expected 'en', found 'de'"
    assert lines[-1] == "  and 2 others"
    await client.complete_jobs([(await added_jobs(client))[0].job.id])
    assert (await failed(client, send_welcome, Welcome(to="x"))).endswith("  and 1 other")


async def test_if_the_task_has_no_job_the_others_are_named(client: Client) -> None:
    assert await failed(client, tidy, None) == "no job of 'tidy' waits; those that wait: none at all"
    await client.add_jobs([(send_welcome, Welcome(to="ada"))] * 2)
    assert await failed(client, tidy, None) == "no job of 'tidy' waits; those that wait: send_welcome (2)"


async def no_task() -> None: ...


@pytest.mark.parametrize(
    ("task", "reason"), [(no_task, "not no_task itself"), (5, "not a value of the type int")]
)
async def test_what_is_neither_a_task_nor_an_identifier_is_refused(
    client: Client, task: Any, reason: str
) -> None:
    with pytest.raises(OptionInvalid, match=rf"^task: a task is needed, .*{reason}"):
        await added_jobs(client, task)
    with pytest.raises(OptionInvalid, match=reason):
        await assert_added(client, task, None)


async def test_another_kind_of_value_is_refused(client: Client, database: Database) -> None:
    wrong: Any = {"priority": 1}
    with pytest.raises(OptionInvalid, match=r"^spec: a JobSpec is needed, .* not a value of the type dict$"):
        await assert_added(client, tidy, None, wrong)
    async with database.connection() as connection:
        wrong = connection
        with pytest.raises(OptionInvalid, match=r"^where: .*, such as Client\(database\), not a value of"):
            await added_jobs(wrong)
