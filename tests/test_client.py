"""Adding jobs and changing those that wait, on a real database."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import attrs
import pytest
import trio

from tests.scenarios.points import ActAt
from trio_graphile import (
    Cleanup,
    Client,
    Connection,
    Database,
    DatabaseOptions,
    DuplicateJobKey,
    Job,
    JobKeyMode,
    JobSpec,
    OptionInvalid,
    PayloadInvalid,
    SchemaMissing,
    StatementFailed,
    SweepReport,
    TaskRegistry,
    open_database,
)
from trio_graphile._database import claims, fleet, queue
from trio_graphile._model.json import decode

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome) -> None: ...


@tasks.task("tick")
async def tick() -> None: ...


@tasks.task("index")
async def index(payload: list[int]) -> None: ...


ADA = Welcome(to="ada@example.org")
SOON = datetime(2100, 1, 1, tzinfo=UTC)
LATER = datetime(2200, 1, 1, tzinfo=UTC)
ODD_FLAGS = ["", " ", "NULL", 'quotes " and \\', "{a,b}", "é"]
KEYED = JobSpec(job_key="k")


@pytest.fixture
def client(database: Database) -> Client:
    return Client(database, tasks)


async def stored(database: Database) -> list[tuple[int, str | None, str]]:
    """The id, key and payload of each job in the table."""
    rows = await database.fetch(
        "select id, key, payload::text as payload from graphile_worker._private_jobs order by id"
    )
    return [(row["id"], row["key"], row["payload"]) for row in rows]


async def lock(database: Database, worker_id: str = "somebody", *, age: str = "0") -> list[Job]:
    """Claim everything that is due, as a worker would have done some time ago."""
    claimed = await claims.get_jobs(database, worker_id, tasks.identifiers, 100)
    for table in ("_private_jobs", "_private_job_queues"):
        await database.execute(
            f"""
            update graphile_worker.{table}
            set locked_at = locked_at - $2::text::interval
            where locked_by = $1::text
            """,
            worker_id,
            age,
        )
    return claimed


# --- adding one -----------------------------------------------------------------------------------


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


# --- adding many ----------------------------------------------------------------------------------


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
    with pytest.raises(StatementFailed, match=r"2 jobs were to be added, but .*1 "):
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


async def test_an_addition_that_answers_with_other_jobs_is_undone(client: Client, database: Database) -> None:
    await database.execute(ANSWER_BACKWARDS.replace("spec.priority", "7"))
    with pytest.raises(StatementFailed, match=r"2 jobs were to be added, but .* 2 that came back"):
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


async def test_ten_thousand_jobs_are_added_and_the_planner_is_told(
    client: Client, database: Database
) -> None:
    jobs = await client.add_raw_jobs([("t", n) for n in range(10_000)])
    assert [job.payload for job in jobs] == list(range(10_000))
    estimate = await database.fetch_value(
        "select reltuples::integer from pg_class where oid = 'graphile_worker._private_jobs'::regclass"
    )
    assert estimate == 10_000


LATE = 12_000
"""After some of the jobs before it have been sent."""


@pytest.mark.parametrize(
    ("late", "error"),
    [
        (("t", float("nan")), PayloadInvalid),
        (("t", None, JobSpec(job_key="first")), DuplicateJobKey),
        (("t", None, JobSpec(job_key_mode=JobKeyMode.UNSAFE_DEDUPE)), OptionInvalid),
        (("t", "refused"), StatementFailed),
    ],
)
async def test_a_late_mistake_keeps_all_from_being_added(
    client: Client, database: Database, late: Any, error: type[Exception]
) -> None:
    await database.execute(
        """
        alter table graphile_worker._private_jobs add constraint none_refused
        check (payload::text <> '"refused"')
        """
    )
    jobs: list[Any] = [("t", None, JobSpec(job_key="first"))] + [("t", None)] * LATE
    jobs[LATE - 1] = late
    with pytest.raises(error):
        await client.add_raw_jobs(jobs)
    async with database.transaction() as connection:
        with pytest.raises(error):
            await client.using(connection).add_raw_jobs(jobs)
        await client.using(connection).add_raw_job("t", "other")
    assert [payload for _, _, payload in await stored(database)] == ['"other"']


@attrs.frozen
class Cancelling:
    """A task whose late payload cancels whoever adds it, when others were sent already."""

    scope: trio.CancelScope  # noqa: TID251  # never a shield
    identifier: str = "t"

    def to_json(self, payload: int) -> str:
        if payload == LATE - 1:
            self.scope.cancel()
        return str(payload)

    def from_json(self, text: str) -> int:
        return int(text)

    def complete_spec(self, spec: JobSpec) -> JobSpec:
        return spec


async def test_many_jobs_that_are_not_wanted_any_more_leave_nothing(
    client: Client, database: Database
) -> None:
    with trio.move_on_after(60) as scope:
        await client.add_jobs([(Cancelling(scope), n) for n in range(LATE)])
    assert scope.cancelled_caught
    assert await stored(database) == []


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


FAIL_TO_BE_ANALYZED = """
    create function graphile_worker.not_now(id bigint) returns bigint language plpgsql immutable as $$
    begin
      if current_query() like 'analyze%' then
        raise exception 'not now';
      end if;
      return id;
    end
    $$;
    create index on graphile_worker._private_jobs (graphile_worker.not_now(id));
"""


async def test_a_failed_analysis_is_only_logged(
    client: Client, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.execute(FAIL_TO_BE_ANALYZED)
    with caplog.at_level(logging.WARNING, logger="trio_graphile.client"):
        jobs = await client.add_raw_jobs([("t", None)] * 10_000)
    assert len(jobs) == 10_000
    assert [record.getMessage() for record in caplog.records] == [
        "the jobs table could not be analyzed: not now"
    ]


# --- what is refused ------------------------------------------------------------------------------


COUNT_INSERTS = """
    create table inserts (rows bigint);
    create function count_insert() returns trigger language plpgsql as $$
    begin
      insert into inserts select count(*) from added where payload::text like '"%';
      return null;
    end $$;
    create trigger count_inserts after insert on graphile_worker._private_jobs
      referencing new table as added for each statement execute function count_insert();
"""


@pytest.mark.parametrize("queues", [(None, None), ("a", None)], ids=["alike", "unlike"])
async def test_large_payloads_are_sent_in_several_statements(
    client: Client, database: Database, queues: tuple[str | None, str | None]
) -> None:
    """PostgreSQL takes no value of a gigabyte, which all payloads of a statement are together."""
    await database.execute(COUNT_INSERTS)
    text = "x" * 9_000_000
    added = await client.add_raw_jobs([("many", text, JobSpec(queue_name=queues[n % 2])) for n in range(5)])
    assert [row["rows"] for row in await database.fetch("select * from inserts where rows > 0")] == [3, 2]
    assert [job.queue_name for job in added] == [queues[n % 2] for n in range(5)]
    assert [job.id for job in added] == sorted(job.id for job in added)


@pytest.mark.parametrize("identifier", ["", "a" * 129, "a\0b", None, 5, send_welcome])
async def test_an_impossible_identifier_is_refused_before_anything_is_sent(
    client: Client, identifier: object
) -> None:
    with pytest.raises(OptionInvalid, match=r"^identifier: "):
        await client.add_raw_job(identifier)  # type: ignore[arg-type]
    with pytest.raises(OptionInvalid, match=r"^identifier: "):
        await client.add_raw_jobs([(identifier, None)])  # type: ignore[list-item]


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


# --- in the caller's transaction ------------------------------------------------------------------


async def test_what_is_done_in_a_transaction_that_rolls_back_was_never_done(
    client: Client, database: Database
) -> None:
    waiting = await client.add_raw_job("t", None, JobSpec(job_key="old"))
    with trio.CancelScope() as scope:  # noqa: TID251  # cancelled by the body itself
        async with database.transaction() as connection:
            inside = client.using(connection)
            await inside.add_job(send_welcome, ADA)
            await inside.add_jobs([(send_welcome, ADA, JobSpec(job_key="a")), (send_welcome, ADA, JobSpec())])
            await inside.remove_job("old")
            scope.cancel()
    assert [job_id for job_id, _, _ in await stored(database)] == [waiting.id]


async def test_what_is_done_in_a_transaction_is_there_once_it_commits(
    client: Client, database: Database
) -> None:
    waiting = await client.add_raw_job("t")
    async with database.transaction() as connection:
        inside = client.using(connection)
        added = await inside.add_jobs(
            [
                (send_welcome, ADA, JobSpec(job_key="a")),
                (send_welcome, ADA, JobSpec(job_key="b", job_key_mode=JobKeyMode.PRESERVE_RUN_AT)),
            ]
        )
        await inside.complete_jobs([waiting.id])
        assert [job_id for job_id, _, _ in await stored(database)] == [waiting.id]
    assert [job_id for job_id, _, _ in await stored(database)] == [job.id for job in added]


async def test_a_client_for_a_transaction_does_not_maintain_the_schema(
    client: Client, connection: Connection
) -> None:
    inside = client.using(connection)
    assert not hasattr(inside, "migrate")
    assert not hasattr(inside, "cleanup")
    assert not hasattr(inside, "sweep_stale_workers")


async def test_ten_thousand_jobs_of_a_transaction_that_rolls_back_leave_nothing(
    client: Client, database: Database
) -> None:
    async def add_and_fail() -> None:
        async with database.transaction() as connection:
            added = await client.using(connection).add_jobs([(tick, None)] * 10_000)
            raise ArithmeticError(len(added))

    with pytest.raises(ArithmeticError, match=r"^10000$"):
        await add_and_fail()
    assert await stored(database) == []


async def test_a_transaction_survives_jobs_that_were_refused_on_our_side(
    client: Client, connection: Connection
) -> None:
    async with connection.transaction():
        inside = client.using(connection)
        with pytest.raises(DuplicateJobKey):
            await inside.add_jobs([(tick, None, KEYED), (tick, None, KEYED)])
        await inside.add_job(tick, None)


async def test_only_a_connection_can_be_used(client: Client) -> None:
    with pytest.raises(TypeError, match="asyncpg or trio_graphile connection"):
        client.using("postgresql://localhost/app")


# --- removing -------------------------------------------------------------------------------------


async def test_a_waiting_job_is_removed_by_its_key(client: Client, database: Database) -> None:
    job = await client.add_job(send_welcome, ADA, JobSpec(job_key="k", queue_name="mail"))
    assert await client.remove_job("k") == job
    assert await stored(database) == []
    assert await client.remove_job("k") is None


async def test_a_running_job_is_detached_instead(client: Client, database: Database) -> None:
    job = await client.add_job(send_welcome, ADA, KEYED)
    await lock(database)
    detached = await client.remove_job("k")
    assert detached is not None
    assert (detached.id, detached.key, detached.attempts) == (job.id, None, job.max_attempts)
    assert detached.locked_by == "somebody"
    assert [job_id for job_id, _, _ in await stored(database)] == [job.id]


async def test_a_job_whose_worker_is_long_gone_is_removed_and_its_queue_freed(
    client: Client, database: Database
) -> None:
    await client.add_job(send_welcome, ADA, JobSpec(job_key="k", queue_name="mail"))
    await lock(database, age="5 hours")
    removed = await client.remove_job("k")
    assert removed is not None
    assert removed.key == "k"
    assert await stored(database) == []
    await client.add_job(send_welcome, ADA, JobSpec(queue_name="mail"))
    assert len(await lock(database, "another")) == 1


async def test_a_key_that_is_not_text_is_refused(client: Client) -> None:
    with pytest.raises(OptionInvalid, match="job_key"):
        await client.remove_job(5)  # type: ignore[arg-type]


# --- completing, failing, rescheduling ------------------------------------------------------------


@attrs.frozen
class Five:
    """A failed, two regular, a locked and an unselected job."""

    failed: Job
    regular_1: Job
    regular_2: Job
    locked: Job
    untouched: Job

    @property
    def selected(self) -> list[int]:
        return [self.failed.id, self.regular_1.id, self.locked.id, self.regular_2.id]

    @property
    def changed(self) -> list[int]:
        return [self.failed.id, self.regular_1.id, self.regular_2.id]


@pytest.fixture
async def five(client: Client, database: Database) -> Five:
    locked = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database)
    failed, regular_1, regular_2, untouched = await client.add_jobs(
        [(tick, None, JobSpec(max_attempts=n)) for n in (1, 2, 3, 4)]
    )
    await database.execute(
        """
        update graphile_worker._private_jobs
        set attempts = max_attempts, last_error = 'oh'
        where id = $1::bigint
        """,
        failed.id,
    )
    return Five(failed, regular_1, regular_2, locked, untouched)


async def test_jobs_are_completed_unless_they_run(client: Client, database: Database, five: Five) -> None:
    result = await client.complete_jobs(five.selected)
    assert [job.id for job in result.jobs] == sorted(five.changed)
    assert {job.task_identifier for job in result.jobs} == {"tick"}
    assert result.skipped_ids == (five.locked.id,)
    assert [job_id for job_id, _, _ in await stored(database)] == sorted([five.locked.id, five.untouched.id])


async def test_jobs_are_failed_for_good_unless_they_run(client: Client, five: Five) -> None:
    result = await client.permanently_fail_jobs([*five.selected, 10**9, 10**9], "out of stock")
    assert [job.id for job in result.jobs] == sorted(five.changed)
    assert result.skipped_ids == (five.locked.id, 10**9)
    assert {job.last_error for job in result.jobs} == {"out of stock"}
    assert [job.attempts for job in result.jobs] == [job.max_attempts for job in result.jobs]


async def test_a_reason_may_be_left_out_and_may_be_empty(client: Client) -> None:
    job = await client.add_job(tick, None)
    assert (await client.permanently_fail_jobs([job.id])).jobs[0].last_error == "Manually marked as failed"
    assert (await client.permanently_fail_jobs([job.id], "")).jobs[0].last_error == ""


async def test_jobs_are_rescheduled_unless_they_run(client: Client, five: Five) -> None:
    result = await client.reschedule_jobs(five.selected, run_at=SOON)
    assert [job.id for job in result.jobs] == sorted(five.changed)
    assert result.skipped_ids == (five.locked.id,)
    assert {job.run_at for job in result.jobs} == {SOON}
    failed = next(job for job in result.jobs if job.id == five.failed.id)
    assert (failed.last_error, failed.attempts, failed.max_attempts) == ("oh", 1, 1)


async def test_zero_is_a_value_when_rescheduling(client: Client) -> None:
    job = await client.add_job(tick, None, JobSpec(priority=7, max_attempts=3))
    await client.permanently_fail_jobs([job.id])
    (changed,) = (await client.reschedule_jobs([job.id], priority=0, attempts=0)).jobs
    assert (changed.priority, changed.attempts, changed.max_attempts) == (0, 0, 3)
    assert changed.run_at == job.run_at


@pytest.mark.parametrize(
    ("option", "changes"),
    [
        ("run_at", {}),
        ("run_at", {"run_at": datetime(2100, 1, 1)}),  # noqa: DTZ001  # without a time zone
        ("priority", {"priority": 40_000}),
        ("priority", {"priority": True}),
        ("attempts", {"attempts": -1}),
        ("max_attempts", {"max_attempts": 0}),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    client: Client, option: str, changes: dict[str, int]
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        await client.reschedule_jobs([1], **changes)  # type: ignore[arg-type]
    assert caught.value.option == option


async def test_a_job_whose_worker_is_long_gone_runs_again_once_it_is_rescheduled(
    client: Client, database: Database
) -> None:
    job = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database, age="5 hours")
    (changed,) = (await client.reschedule_jobs([job.id], run_at=job.run_at)).jobs
    assert (changed.locked_at, changed.locked_by) == (None, None)
    assert [claimed.id for claimed in await lock(database, "another")] == [job.id]


async def test_force_unlocking_frees_the_jobs_and_queues_of_those_workers_alone(
    client: Client, database: Database
) -> None:
    for number in (1, 2, 3):
        await client.add_job(tick, None, JobSpec(queue_name=f"q{number}"))
        await lock(database, f"w{number}")
    await client.force_unlock_workers([])
    await client.force_unlock_workers(["w2", "w3", "unknown"])
    again = await lock(database, "another")
    assert [(job.queue_name, job.attempts) for job in again] == [("q2", 2), ("q3", 2)]


async def test_one_worker_id_is_not_many(client: Client) -> None:
    with pytest.raises(OptionInvalid, match="worker_ids"):
        await client.force_unlock_workers("w1")


# --- cleaning up ----------------------------------------------------------------------------------


async def names(database: Database, table: str, column: str) -> set[str]:
    rows = await database.fetch(f"select {column} as name from graphile_worker.{table}")
    return {row["name"] for row in rows}


async def test_cleaning_up_takes_only_empty_queues_unless_told(client: Client, database: Database) -> None:
    done = await client.add_raw_job("gone", None, JobSpec(queue_name="empty"))
    await client.add_raw_job("t", None, JobSpec(queue_name="used"))
    await client.add_raw_job("t")  # a job without a queue must not hide the empty ones
    await client.complete_jobs([done.id])
    assert await client.cleanup() == {Cleanup.GC_JOB_QUEUES: 1}
    assert await names(database, "_private_job_queues", "queue_name") == {"used"}
    assert await names(database, "_private_tasks", "identifier") == {"gone", "t"}


async def test_a_locked_queue_is_not_cleaned_up(client: Client, database: Database) -> None:
    job = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database)
    await database.execute("delete from graphile_worker._private_jobs where id = $1::bigint", job.id)
    assert await client.cleanup() == {Cleanup.GC_JOB_QUEUES: 0}


async def test_failed_jobs_are_cleaned_up_and_others_kept(
    client: Client, database: Database, five: Five
) -> None:
    await database.execute(
        "update graphile_worker._private_jobs set attempts = 30, max_attempts = 5 where id = $1::bigint",
        five.regular_1.id,
    )
    assert await client.cleanup([Cleanup.DELETE_PERMANENTLY_FAILED_JOBS]) == {
        Cleanup.DELETE_PERMANENTLY_FAILED_JOBS: 2
    }
    assert [job_id for job_id, _, _ in await stored(database)] == sorted(
        [five.locked.id, five.regular_2.id, five.untouched.id]
    )


async def test_unused_tasks_are_cleaned_up_but_for_ours_and_those_to_keep(
    client: Client, database: Database
) -> None:
    await queue.register_tasks(database, ["tick", "idle elsewhere", "forgotten"])
    await client.add_raw_job("used")
    before = await database.fetch_value(
        "select id from graphile_worker._private_tasks where identifier = 'tick'"
    )
    assert await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS], keep_tasks=["idle elsewhere"]) == {
        Cleanup.GC_TASK_IDENTIFIERS: 1
    }
    assert await names(database, "_private_tasks", "identifier") == {"tick", "idle elsewhere", "used"}
    after = await database.fetch_value(
        "select id from graphile_worker._private_tasks where identifier = 'tick'"
    )
    assert after == before


async def test_the_tasks_of_live_workers_are_kept(client: Client, database: Database) -> None:
    await queue.register_tasks(database, ["tick", "idle elsewhere", "of the dead"])
    await fleet.heartbeat(database, "alive", {"tasks": ["idle elsewhere"]})
    await fleet.heartbeat(database, "dead", {"tasks": ["of the dead"]})
    await silence(database, "dead", "6 minutes")
    assert await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS]) == {Cleanup.GC_TASK_IDENTIFIERS: 1}
    assert await names(database, "_private_tasks", "identifier") == {"tick", "idle elsewhere"}


async def test_cleaning_up_needs_no_registry_of_workers(client: Client, database: Database) -> None:
    await queue.register_tasks(database, ["gone"])
    await database.execute("drop table graphile_worker._private_workers")
    assert await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS]) == {Cleanup.GC_TASK_IDENTIFIERS: 1}


async def test_cleaning_up_leaves_alone_what_a_concurrent_add_refers_to(
    client: Client, database: Database
) -> None:
    await queue.register_tasks(database, ["adding"])
    await client.complete_jobs([(await client.add_raw_job("t", None, JobSpec(queue_name="adding"))).id])
    async with database.transaction() as connection:
        await client.using(connection).add_raw_job("adding", None, JobSpec(queue_name="adding"))
        counts = await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES], keep_tasks=["t"])
    assert set(counts.values()) == {0}
    (job,) = await claims.get_jobs(database, "w", ["adding"], 1)
    assert job.queue_name == "adding"


@pytest.mark.parametrize("what", [Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES])
async def test_cleaning_up_leaves_alone_what_adds_of_others_refer_to(
    client: Client, database: Database, what: Cleanup
) -> None:
    """Their functions insert missing names, be they none, and lock no row of those that are there."""
    await client.complete_jobs([(await client.add_raw_job("adding", None, JobSpec(queue_name="adding"))).id])
    async with database.transaction() as connection:
        await connection.execute("""
            insert into graphile_worker._private_tasks (identifier) select 'adding' where false;
            insert into graphile_worker._private_job_queues (queue_name) select 'adding' where false;
            insert into graphile_worker._private_jobs (task_id, job_queue_id)
            select tasks.id, queues.id
            from graphile_worker._private_tasks as tasks
            cross join graphile_worker._private_job_queues as queues;
        """)
        assert await client.cleanup([what]) == {what: 0}
    (job,) = await claims.get_jobs(database, "w", ["adding"], 1)
    assert job.queue_name == "adding"


@pytest.mark.parametrize("payloads", [[1], [1, 2]], ids=["one", "many"])
async def test_a_collector_of_another_program_sees_our_adds(
    client: Client, database: Database, payloads: list[int]
) -> None:
    """Theirs locks the table, as ours does, against whoever may insert a name."""
    await client.add_raw_job("a")
    async with database.transaction() as connection:
        await client.using(connection).add_raw_jobs([("a", payload) for payload in payloads])
        with pytest.raises(StatementFailed) as caught:
            await database.execute("""
                begin;
                lock table graphile_worker._private_tasks in share row exclusive mode nowait;
            """)
    assert caught.value.sqlstate == "55P03"


DANGLING = """
    select count(*)
    from graphile_worker._private_jobs as jobs
    left join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
    left join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
    where tasks.id is null
      or (jobs.job_queue_id is not null and queues.id is null)
"""


async def test_no_job_is_left_without_its_task_or_queue_by_cleaning_up_meanwhile(
    client: Client, database: Database
) -> None:
    finished = trio.Event()

    async def add() -> None:
        for number in range(100):
            job = await client.add_raw_job(f"t{number % 3}", None, JobSpec(queue_name=f"q{number % 3}"))
            if number % 10:
                await client.complete_jobs([job.id])
        finished.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add)
        collected = 0
        while not finished.is_set():
            counts = await client.cleanup([Cleanup.GC_TASK_IDENTIFIERS, Cleanup.GC_JOB_QUEUES])
            collected += sum(counts.values())
    assert collected > 0
    assert await database.fetch_value(DANGLING) == 0
    assert len(await stored(database)) == 10


async def test_cleanup_knows_its_tasks_by_name_too(client: Client) -> None:
    assert await client.cleanup(["gc_job_queues"]) == {Cleanup.GC_JOB_QUEUES: 0}  # type: ignore[list-item]
    with pytest.raises(ValueError, match="everything"):
        await client.cleanup(["everything"])  # type: ignore[list-item]


# --- the workers ----------------------------------------------------------------------------------


async def silence(database: Database, worker_id: str, age: str) -> None:
    await database.execute(
        """
        update graphile_worker._private_workers
        set last_heartbeat_at = now() - $2::text::interval
        where id = $1::text
        """,
        worker_id,
        age,
    )


async def test_registered_workers_are_listed_and_the_stale_marked(client: Client, database: Database) -> None:
    assert await client.list_active_workers() == []
    await fleet.heartbeat(database, "stale", {"pid": 1})
    await fleet.heartbeat(database, "fresh")
    await silence(database, "stale", "301 seconds")
    fresh, stale = await client.list_active_workers()
    assert (fresh.worker_id, fresh.metadata, fresh.is_stale) == ("fresh", None, False)
    assert (stale.worker_id, stale.metadata, stale.is_stale) == ("stale", {"pid": 1}, True)
    assert not (await client.list_active_workers(310))[1].is_stale
    async with database.transaction() as connection:
        await fleet.deregister(connection, "stale")
        assert await client.using(connection).list_active_workers() == [fresh]


DEAD = "trio_graphile_dead"


async def test_the_jobs_of_the_dead_are_given_back(client: Client, database: Database) -> None:
    job = await client.add_job(tick, None, JobSpec(queue_name="q"))
    await lock(database, DEAD, age="1 hour")
    await fleet.heartbeat(database, DEAD)
    assert await client.sweep_stale_workers() == SweepReport()
    await silence(database, DEAD, "2 minutes")
    assert await client.sweep_stale_workers() == SweepReport()
    found = await client.sweep_stale_workers(60, dry_run=True)
    assert found == SweepReport(worker_ids=(DEAD,), dry_run=True)
    assert await client.sweep_stale_workers(60, 0) == SweepReport(worker_ids=(DEAD,), recovered_jobs=1)
    assert await client.list_active_workers() == []
    assert [again.id for again in await lock(database, "another")] == [job.id]


async def test_a_sweep_can_be_told_more(client: Client, database: Database) -> None:
    await client.add_job(tick, None, JobSpec(flags=["patient"]))
    await lock(database, DEAD)
    await fleet.heartbeat(database, DEAD)
    await silence(database, DEAD, "2 minutes")
    patient = {"threshold": 60.0, "resilient_flags": ["patient"]}
    assert (await client.sweep_stale_workers(**patient)).worker_ids == ()  # type: ignore[arg-type]
    report = await client.sweep_stale_workers(**patient, resilient_multiplier=1.5)  # type: ignore[arg-type]
    assert report.recovered_jobs == 1
    await client.add_job(tick, None)
    await lock(database, "pool-of-node", age="10 minutes")
    assert (await client.sweep_stale_workers()).worker_ids == ()
    assert (await client.sweep_stale_workers(orphan_threshold=500)).worker_ids == ("pool-of-node",)


@pytest.mark.parametrize(
    ("option", "given"),
    [
        ("sweep_threshold", {"threshold": 0}),
        ("sweep_threshold", {"threshold": 300_000}),
        ("recovery_delay", {"recovery_delay": -1}),
        ("orphan_threshold", {"threshold": 60, "orphan_threshold": 59}),
        ("resilient_flags", {"resilient_flags": "patient"}),
        ("resilient_multiplier", {"resilient_multiplier": 0}),
    ],
)
async def test_a_sweep_that_cannot_be_meant_is_refused(
    client: Client, option: str, given: dict[str, float]
) -> None:
    with pytest.raises(OptionInvalid) as caught:
        await client.sweep_stale_workers(**given)  # type: ignore[arg-type]
    assert caught.value.option == option


async def test_a_refused_statement_stays_what_it_is(client: Client) -> None:
    with pytest.raises(StatementFailed):
        await client.complete_jobs([2**70])


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
