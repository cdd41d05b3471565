"""What is refused, and with which error."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.client.tasks import KEYED, Welcome, index, send_welcome, tasks, tick
from trio_graphile import (
    Cleanup,
    Client,
    DatabaseOptions,
    JobSpec,
    OptionInvalid,
    PayloadInvalid,
    SchemaMissing,
    StatementFailed,
    Worker,
    open_database,
)


@pytest.mark.parametrize("identifier", ["", "a" * 129, "a\0b", None, 5, send_welcome])
async def test_an_impossible_identifier_is_refused_before_anything_is_sent(
    client: Client, identifier: object
) -> None:
    with pytest.raises(OptionInvalid, match=r"^identifier: "):
        await client.add_raw_job(identifier)  # type: ignore[arg-type]
    with pytest.raises(OptionInvalid, match=r"^identifier: "):
        await client.add_raw_jobs([(identifier, None)])  # type: ignore[list-item]


class Taking:
    """What has a method that takes a payload apart."""

    identifier = "t"

    def to_json(self, payload: object) -> str:
        return str(payload.to)  # type: ignore[attr-defined]

    def from_json(self, text: str) -> object: ...

    def complete_spec(self, spec: JobSpec) -> JobSpec:
        return spec


async def handler() -> None: ...


NO_TASKS: list[tuple[object, str]] = [
    ("t", r"^task: a task is needed, not the string 't': add_raw_job and add_raw_jobs take identifiers$"),
    (None, r"^task: a task is needed, as @tasks\.task makes it, not None$"),
    (handler, r'^task: a task is needed, not handler itself: @tasks\.task\("\.\.\."\) makes a task of'),
    (Welcome, r"^task: a task is needed, not Welcome itself: "),
    (
        Welcome(to="secret"),
        r"^task: a task is needed, .*, not a value of the type Welcome$",
    ),
]


@pytest.mark.parametrize(("task", "message"), NO_TASKS)
async def test_what_is_no_task_is_refused_with_the_way_out(client: Client, task: Any, message: str) -> None:
    calls = [
        client.add_job(task, 1),
        client.add_job(task, 1, KEYED),
        client.add_batch_job(task, [1]),
        client.add_jobs([(task, 1)]),
        client.add_jobs([(tick, None, KEYED), (task, None, KEYED)]),
        client.add_jobs([(tick, None)] * 2_500 + [(task, 1)]),
    ]
    for call in calls:
        with pytest.raises(OptionInvalid, match=message):
            await call
    async with client.combining_adds() as adds:
        with pytest.raises(OptionInvalid, match=message):
            await adds.add_job(task, 1)
    assert (await client.jobs()).jobs == ()


async def test_a_mistake_inside_of_a_task_is_not_blamed_on_its_type(client: Client) -> None:
    with pytest.raises(AttributeError, match="'int' object has no attribute 'to'"):
        await client.add_job(Taking(), 1)


async def test_the_longest_names_are_accepted(client: Client) -> None:
    job = await client.add_raw_job("é" * 128, None, JobSpec(queue_name="é" * 128, job_key="é" * 512))
    assert job.key == "é" * 512


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"a": [object()]}, "object is not JSON @ $.a[0]"),
        ([float("nan")], "nan is not a JSON number @ $[0]"),
        ({1: 2}, "the key 1 is not a string @ $"),
        ({"a": "\ud800"}, "text with a lone surrogate is not valid Unicode @ $.a"),
    ],
)
async def test_a_raw_payload_that_is_not_json_is_refused_with_its_path(
    client: Client, payload: object, reason: str
) -> None:
    with pytest.raises(PayloadInvalid) as caught:
        await client.add_raw_job("t", payload)
    assert caught.value.reasons == (reason,)


async def test_a_payload_that_contains_itself_is_refused(client: Client) -> None:
    payload: list[object] = []
    payload.append(payload)
    with pytest.raises(PayloadInvalid, match="nested too deeply"):
        await client.add_raw_job("t", payload)


async def test_a_batch_needs_an_item(client: Client) -> None:
    with pytest.raises(OptionInvalid, match="at least one item"):
        await client.add_batch_job(index, [])


async def test_without_a_schema_the_way_out_is_named(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        client = Client(database, tasks)
        for call in (
            lambda: client.add_job(tick, None),
            lambda: client.add_jobs([(tick, None)]),
            lambda: client.remove_job("k"),
            lambda: client.complete_jobs([1]),
            lambda: client.permanently_fail_jobs([1]),
            lambda: client.reschedule_jobs([1], priority=1),
            lambda: client.force_unlock_workers(["w"]),
            client.list_active_workers,
            client.sweep_stale_workers,
            client.cleanup,
            lambda: client.cleanup([Cleanup.GC_TASK_IDENTIFIERS]),
        ):
            with pytest.raises(SchemaMissing, match=r"graphile_worker.*client.migrate\(\)"):
                await call()
        await client.migrate()
        await client.add_job(tick, None)


async def test_an_empty_schema_is_a_missing_one(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        await database.execute("create schema graphile_worker")
        client = Client(database, tasks)
        with pytest.raises(SchemaMissing):
            await client.add_job(tick, None)
        with pytest.raises(SchemaMissing):
            await client.add_jobs([(tick, None)])


async def test_any_schema_will_do(empty_database_url: str) -> None:
    async with open_database(empty_database_url, DatabaseOptions(schema='odd "schema"')) as database:
        client = Client(database, tasks)
        await client.migrate()
        (job,) = await client.add_jobs([(tick, None, KEYED)])
        assert (await client.remove_job("k")) == job
        assert await client.cleanup(Cleanup) == dict.fromkeys(Cleanup, 0)


async def test_a_refused_statement_stays_what_it_is(client: Client) -> None:
    async with client.database.connection() as connection:
        await connection.fetch("begin")
        with pytest.raises(StatementFailed, match="division by zero"):
            await connection.fetch("select 1 / 0")
        with pytest.raises(StatementFailed, match="transaction is aborted"):
            await client.using(connection).complete_jobs([1])
        await connection.fetch("rollback")


NO_SPECS = [{"priority": 1}, 5, "queue", JobSpec]


@pytest.mark.parametrize("spec", NO_SPECS)
async def test_what_is_no_spec_is_refused(client: Client, spec: Any) -> None:
    jobs: list[Any] = [(tick, None), (tick, None, spec)]
    calls = [
        client.add_job(send_welcome, Welcome(to="a"), spec),
        client.add_raw_job("t", 1, spec),
        client.add_batch_job(index, [1], spec),
        client.add_jobs(jobs),
        client.add_raw_jobs([("t", 1), ("t", 1, spec)]),
    ]
    for call in calls:
        with pytest.raises(OptionInvalid, match=r"^spec: a JobSpec is needed, such as JobSpec\(priority=1\)"):
            await call
    assert not (await client.jobs()).jobs


async def test_no_spec_is_as_none(client: Client) -> None:
    [with_none] = await client.add_jobs([(tick, None, None)])
    [raw] = await client.add_raw_jobs([("t", 1, None)])
    assert (with_none.task_identifier, raw.payload) == (tick.identifier, 1)


@pytest.mark.parametrize(
    ("job", "what"),
    [
        ("ab", "a value of the type str"),  # not the task a with the payload b
        ("t", "a value of the type str"),
        ({"t": 1, "u": 2}, "a value of the type dict"),
        (None, "None"),
        (("t",), "1 values"),
        (("t", "secret", JobSpec(), 1), "4 values"),
    ],
)
async def test_what_is_no_pair_and_no_triple_is_refused(client: Client, job: Any, what: str) -> None:
    for call in (client.add_jobs([(tick, None), job]), client.add_raw_jobs([("t", 1), job])):
        with pytest.raises(OptionInvalid, match=r"^jobs: each is \(task, payload\) or .*, not " + what + "$"):
            await call
    assert not (await client.jobs()).jobs


async def test_the_letters_of_a_string_are_no_items(client: Client) -> None:
    letters: Any = "secret"
    with pytest.raises(OptionInvalid, match=r"^items: several items are needed, not one string$"):
        await client.add_batch_job(index, letters)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5], "an id is a whole number, not 1.5"),  # not the job 1
        ([True], "an id is a whole number, not True"),
        (["1"], "an id is a whole number, not '1'"),
        ("12", "an id is a whole number, not '1'"),
        ([None], "an id is a whole number, not None"),
        ([2**63], "no job can have the id 9223372036854775808"),
        (12, r"several ids are needed, such as \[1, 2\], not 12"),
    ],
)
async def test_what_is_no_id_of_a_job_is_refused(client: Client, ids: Any, message: str) -> None:
    job = await client.add_job(tick, None)
    assert job.id == 1
    calls = [
        client.complete_jobs(ids),
        client.permanently_fail_jobs(ids),
        client.cancel_jobs(ids),
        client.reschedule_jobs(ids, priority=5),
    ]
    for call in calls:
        with pytest.raises(OptionInvalid, match=f"^ids: {message}$"):
            await call
    assert (await client.jobs()).jobs[0].job == job


async def test_another_kind_of_value_is_refused_where_it_is_given(client: Client, database_url: str) -> None:
    def refused(option: str, kind: str, given: str) -> pytest.RaisesExc[OptionInvalid]:
        return pytest.raises(OptionInvalid, match=rf"^{option}: a {kind} is needed, .*\b{given}$")

    wrong: Any = {"limit": 1}
    url: Any = database_url
    with refused("which", "JobFilter", "dict"):
        await client.jobs(wrong)
    with refused("url", "str", "dict"):
        await open_database(wrong).__aenter__()
    with refused("options", "DatabaseOptions", "dict"):
        await open_database(url, wrong).__aenter__()
    with refused("connect_arguments", "Mapping", "str"):
        await open_database(url, connect_arguments="ssl").__aenter__()  # type: ignore[arg-type]
    with refused("database", "Database", "str"):
        Client(url)
    with refused("database", "Database", "str"):
        Worker(url, tasks)
    with refused("options", "WorkerOptions", "dict"):
        Worker(client.database, tasks, wrong)
    with refused("tasks", "TaskRegistry", "dict"):
        Client(client.database, wrong)


@pytest.mark.parametrize("keep_tasks", ["tick", [None], [tick], b"tick"])
async def test_the_letters_of_a_string_are_no_tasks_to_keep(client: Client, keep_tasks: Any) -> None:
    await client.complete_jobs([(await client.add_job(tick, None)).id])
    with pytest.raises(OptionInvalid, match=r"^keep_tasks: "):
        await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS], keep_tasks=keep_tasks)
    assert [task.identifier for task in await client.known_tasks()] == [tick.identifier]


@pytest.mark.parametrize("dry_run", [None, 0, "no"])
async def test_a_sweep_is_dry_or_not(client: Client, dry_run: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^dry_run: a bool is needed, not "):
        await client.sweep_stale_workers(dry_run=dry_run)


@pytest.mark.parametrize("threshold", [None, "x", True, -1, float("nan"), float("inf"), timedelta(minutes=5)])
async def test_workers_are_stale_after_seconds(client: Client, threshold: Any) -> None:
    for call in (client.workers(threshold), client.list_active_workers(threshold)):
        with pytest.raises(OptionInvalid, match=r"^stale_threshold: seconds from 0 to \d+ are needed, not "):
            await call


@pytest.mark.parametrize("text", ["nul \0", "half \ud83d", 7])
async def test_texts_that_postgresql_cannot_store_are_named(client: Client, text: Any) -> None:
    calls = [
        client.add_raw_job(text),
        client.remove_job(text),
        client.permanently_fail_jobs([1], text),
        client.cancel_jobs([1], reason=text),
        client.force_unlock_workers([text]),
    ]
    for call in calls:
        with pytest.raises(OptionInvalid, match=r"NUL|half of a character|a string is needed"):
            await call
