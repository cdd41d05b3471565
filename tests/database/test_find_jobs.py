"""Lists of jobs, held against all jobs as sorted and filtered by hand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from trio_graphile import Connection, Database
from trio_graphile._database.search.cursor import Cursor, Place, decode
from trio_graphile._database.search.find import find_jobs
from trio_graphile._database.search.payload import stored_payload
from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.failure_groups import error_group
from trio_graphile._model.inspection import JobState
from trio_graphile._model.listing import FoundJobs, JobOrder, JobSearch

OLDEST, NEWEST, NEXT_RUN, LATEST_FAILURE = JobOrder
TASKS = [f"task-{number}" for number in range(1, 6)]
QUEUES = [f"queue-{number}" for number in range(1, 6)]

ADD_NAMES = """
    with queues as (
      insert into graphile_worker._private_job_queues (queue_name)
      select unnest($2::text[])
    )
    insert into graphile_worker._private_tasks (identifier)
    select unnest($1::text[])
"""
ADD_JOBS = """
    insert into graphile_worker._private_jobs
      (task_id, job_queue_id, priority, run_at, attempts, max_attempts, last_error, locked_at, locked_by,
      flags, key, payload)
    select one.task_id, one.job_queue_id, one.priority, one.run_at::timestamptz, one.attempts, 3,
      one.last_error, case when one.locked_by is not null then now() end, one.locked_by,
      one.flags, one.key, one.payload
    from json_to_recordset($1::text::json) as one(
      task_id integer, job_queue_id integer, priority smallint, run_at text, attempts smallint,
      last_error text, locked_by text, flags jsonb, key text, payload json
    )
"""
ALL_JOBS = """
    select jobs.id, tasks.identifier, queues.queue_name, jobs.priority, jobs.run_at::text as run_at_text,
      rank() over (order by jobs.run_at) as time, jobs.last_error, jobs.locked_by, jobs.key,
      jobs.flags::text as flags, jobs.payload::text as payload,
      case
        when jobs.locked_at is not null then 'locked'
        when jobs.attempts >= jobs.max_attempts then 'failed'
        when jobs.run_at > now() then 'scheduled'
        else 'ready'
      end as state
    from graphile_worker._private_jobs as jobs
    left join graphile_worker._private_tasks as tasks on tasks.id = jobs.task_id
    left join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
"""
TIMES = [
    *["2024-05-05 05:05:05.123456+00"] * 5,
    "infinity",
    "-infinity",
    "0044-03-15 00:00:00.000001+00 BC",
    "20000-01-01 00:00:00.000003+00",
    "20000-01-01 00:00:00.000004+00",
    "2024-05-05 05:05:05.123457+00",
    "2999-01-01 00:00:00+00",
]


def random_job(chance: random.Random) -> dict[str, object]:
    return {
        "task_id": chance.choice([1, 2, 3, 4, 4, 4, 77]),  # the last is of no task
        "job_queue_id": chance.choice([None, None, None, 1, 2, 3]),
        "priority": chance.choice([0, 0, 0, -5, 3]),
        "run_at": chance.choice(TIMES),
        "attempts": chance.choice([0, 1, 3, 3, 4]),
        "last_error": chance.choice(
            [None, "", "Error 12 of 3\nmore", "Error 7 of 30\nother", "100%_\\ done"]
        ),
        "locked_by": chance.choice([None] * 5 + ["worker-a", "worker-b"]),
        "flags": chance.choice([None, {"red": True}, {"red": True, "blue": True}]),
        "payload": chance.choice([{}, {"to": "Ada"}, {"to": "a%b_c"}, [1.10]]),
    }


async def add_jobs(connection: Connection | Database, jobs: Sequence[Mapping[str, object]]) -> None:
    await connection.execute(ADD_JOBS, json.dumps(jobs))


@pytest.fixture
async def filled(connection: Connection) -> Connection:
    chance = random.Random(19)
    await connection.execute(ADD_NAMES, TASKS, QUEUES)
    await add_jobs(connection, [random_job(chance) | {"key": f"key-{number}"} for number in range(300)])
    return connection


def place_of(job: Mapping[str, Any], order: JobOrder) -> tuple[int, ...]:
    match order:
        case JobOrder.OLDEST:
            return (job["id"],)
        case JobOrder.NEWEST:
            return (-job["id"],)
        case JobOrder.NEXT_RUN:
            return (job["priority"], job["time"], job["id"])
        case JobOrder.LATEST_FAILURE:
            return (-job["time"], -job["id"])


def is_shown(job: Mapping[str, Any], order: JobOrder) -> bool:
    if order is NEXT_RUN:
        return job["state"] in {"ready", "scheduled"}
    return order is not LATEST_FAILURE or job["state"] == "failed"


async def by_hand(
    connection: Connection, order: JobOrder, condition: Callable[[Mapping[str, Any]], bool] = lambda _: True
) -> list[int]:
    jobs = [job for job in await connection.fetch(ALL_JOBS) if is_shown(job, order) and condition(job)]
    return [job["id"] for job in sorted(jobs, key=lambda job: place_of(job, order))]


async def pages_of(connection: Connection, search: JobSearch, *, window: int = 20_000) -> list[FoundJobs]:
    pages = [await find_jobs(connection, search, window=window)]
    while (after := pages[-1].next) is not None:
        assert len(pages) < 2000
        pages.append(await find_jobs(connection, attrs.evolve(search, offset=0), after, window=window))
    return pages


def ids_of(pages: Sequence[FoundJobs]) -> list[int]:
    return [one.listed.job.id for page in pages for one in page.jobs]


SEARCHES: dict[str, tuple[JobSearch, Callable[[Mapping[str, Any]], bool]]] = {
    "all": (JobSearch(), lambda _: True),
    "states": (
        JobSearch(states=(JobState.FAILED, JobState.READY)),
        lambda job: job["state"] in {"failed", "ready"},
    ),
    "scheduled": (JobSearch(states=(JobState.SCHEDULED,)), lambda job: job["state"] == "scheduled"),
    "locked": (JobSearch(states=(JobState.LOCKED,)), lambda job: job["state"] == "locked"),
    "tasks": (
        JobSearch(identifiers=("task-2", "task-4", "unknown")),
        lambda job: job["identifier"] in {"task-2", "task-4"},
    ),
    "unknown task": (JobSearch(identifiers=("unknown",)), lambda _: False),
    "queues": (
        JobSearch(queues=("queue-1", "queue-3")),
        lambda job: job["queue_name"] in {"queue-1", "queue-3"},
    ),
    "task and queue": (
        JobSearch(identifiers=("task-4",), queues=("queue-2",)),
        lambda job: (job["identifier"], job["queue_name"]) == ("task-4", "queue-2"),
    ),
    "locked by": (JobSearch(locked_by="worker-a"), lambda job: job["locked_by"] == "worker-a"),
    "error": (
        JobSearch(error="Error # of #"),
        lambda job: error_group(job["last_error"]) == "Error # of #",
    ),
    "no error": (JobSearch(error=""), lambda job: error_group(job["last_error"]) == ""),
    "flags": (JobSearch(flags=("blue", "red")), lambda job: "blue" in (job["flags"] or "")),
    "until": (JobSearch(until_id=100), lambda job: job["id"] <= 100),
    "text in payload": (JobSearch(text="aDA"), lambda job: "Ada" in job["payload"]),
    "percent": (JobSearch(text="a%b"), lambda job: "a%b" in job["payload"]),
    "underscore, backslash": (JobSearch(text="%_\\"), lambda job: "%_\\" in (job["last_error"] or "")),
    "text of task": (JobSearch(text="SK-3"), lambda job: job["identifier"] == "task-3"),
    "text of queue": (JobSearch(text="queue-3"), lambda job: job["queue_name"] == "queue-3"),
    "text of key": (JobSearch(text="key-77"), lambda job: "key-77" in job["key"]),
    "text of worker": (JobSearch(text="er-b"), lambda job: job["locked_by"] == "worker-b"),
    "number as written": (JobSearch(text="1.1]"), lambda job: job["payload"] == "[1.1]"),
    "several": (
        JobSearch(identifiers=("task-4",), states=(JobState.READY, JobState.FAILED), flags=("red",)),
        lambda job: (
            job["identifier"] == "task-4"
            and job["state"] in {"ready", "failed"}
            and "red" in (job["flags"] or "")
        ),
    ),
    "ids": (JobSearch(ids=(5, 250, 7, 100_000, 2**70)), lambda job: job["id"] in {5, 7, 250}),
    "key": (JobSearch(key="key-9"), lambda job: job["key"] == "key-9"),
    "key and id": (JobSearch(key="key-9", ids=(11,)), lambda _: False),
}


@pytest.mark.parametrize("order", list(JobOrder))
async def test_pages_together_are_the_list_as_made_by_hand(filled: Connection, order: JobOrder) -> None:
    for name in SEARCHES:
        await check_pages(filled, name, order)


async def check_pages(filled: Connection, name: str, order: JobOrder) -> None:
    search, condition = SEARCHES[name]
    expected = await by_hand(filled, order, condition)
    by_id = bool(search.ids) or search.key is not None
    if by_id:
        expected.sort(reverse=order in {NEWEST, LATEST_FAILURE})
    for limit, window in ((1000, 20_000), (7, 20_000), (5, 40), (3, 7)):
        pages = await pages_of(filled, attrs.evolve(search, order=order, limit=limit), window=window)
        assert ids_of(pages) == expected, name
        assert all(len(page.jobs) <= limit for page in pages)
        assert all(page.scanned <= window for page in pages)
        fell_back = by_id and order in {NEXT_RUN, LATEST_FAILURE}
        assert not expected or {page.fell_back for page in pages} == {fell_back}


@pytest.mark.parametrize("order", list(JobOrder))
@pytest.mark.parametrize("name", ["all", "states", "queues", "text of task", "until"])
@pytest.mark.parametrize("window", [7, 20_000])
async def test_pages_can_be_turned_back(filled: Connection, name: str, order: JobOrder, window: int) -> None:
    search = attrs.evolve(SEARCHES[name][0], order=order, limit=4)
    expected = await by_hand(filled, order, SEARCHES[name][1])
    forward = await pages_of(filled, search, window=window)
    assert forward[0].previous is None
    page, found = forward[-1], ids_of(forward[-1:])
    for _ in range(2000):
        if page.previous is None:
            break
        page = await find_jobs(filled, search, page.previous, window=window)
        found[:0] = ids_of([page])
        again = await find_jobs(filled, search, page.next, window=window)
        assert not page.jobs or not again.jobs or ids_of([again])[0] not in ids_of([page])
    assert found == expected


@pytest.mark.parametrize("order", list(JobOrder))
async def test_a_page_and_the_one_before_it_fit_together(filled: Connection, order: JobOrder) -> None:
    search = JobSearch(order=order, limit=10)
    first = await find_jobs(filled, search)
    second = await find_jobs(filled, search, first.next)
    assert second.previous is not None
    back = await find_jobs(filled, search, second.previous)
    assert ids_of([back]) == ids_of([first])
    assert back.previous is None
    assert ids_of([await find_jobs(filled, search, back.next)]) == ids_of([second])


@pytest.mark.parametrize("order", list(JobOrder))
@pytest.mark.parametrize("seed", range(3))
async def test_jobs_that_stay_come_once_while_others_come_and_go(
    filled: Connection, order: JobOrder, seed: int
) -> None:
    chance = random.Random(seed)
    before = await by_hand(filled, order)
    search = JobSearch(order=order, limit=6)
    found: list[int] = []
    page = await find_jobs(filled, search, window=20)
    for _ in range(2000):
        found += ids_of([page])
        if page.next is None:
            break
        await add_jobs(filled, [random_job(chance) for _ in range(2)])
        await filled.execute(
            "delete from graphile_worker._private_jobs where id = any($1::bigint[])",
            [chance.choice(before), *found[-1:]],  # where the next page begins, too
        )
        page = await find_jobs(filled, search, page.next, window=20)
    assert page.next is None
    staying = set(await by_hand(filled, order))
    assert len(found) == len(set(found))
    assert [id_ for id_ in before if id_ in staying and id_ not in found] == []


@pytest.mark.parametrize("order", list(JobOrder))
@pytest.mark.parametrize("window", [7, 20_000])
async def test_an_offset_counts_what_is_found(filled: Connection, order: JobOrder, window: int) -> None:
    search = JobSearch(order=order, limit=5, offset=23, flags=("red",))
    expected = await by_hand(filled, order, lambda job: "red" in (job["flags"] or ""))
    assert ids_of(await pages_of(filled, search, window=window)) == expected[23:]


async def test_an_offset_comes_on_top_of_a_place(filled: Connection) -> None:
    first = await find_jobs(filled, JobSearch(limit=5))
    assert ids_of([await find_jobs(filled, JobSearch(limit=5, offset=10), first.next)]) == [*range(16, 21)]


@pytest.mark.parametrize("order", [NEXT_RUN, LATEST_FAILURE])
async def test_without_our_indexes_the_same_jobs_come_by_id(filled: Connection, order: JobOrder) -> None:
    search = JobSearch(order=order, limit=5)
    merged = await find_jobs(filled, search)
    for name in ("failed", "task", "queued", "queue"):
        await filled.execute(f"drop index graphile_worker.trio_graphile_{name}_index")
    expected = sorted(await by_hand(filled, order), reverse=order is LATEST_FAILURE)
    for window in (7, 20_000):
        pages = await pages_of(filled, search, window=window)
        assert ids_of(pages) == expected
        assert all(page.fell_back for page in pages)
    with pytest.raises(OptionInvalid, match="no longer possible"):
        await find_jobs(filled, search, merged.next)


async def test_more_tasks_than_can_be_merged_come_by_id(connection: Connection) -> None:
    await add_jobs(
        connection,
        [
            random_job(random.Random(1))
            | {"task_id": number, "attempts": 0, "locked_by": None, "job_queue_id": None}
            for number in range(1, 1003)
        ],
    )
    page = await find_jobs(connection, JobSearch(order=NEXT_RUN, limit=10))
    assert page.fell_back
    assert ids_of([page]) == [*range(1, 11)]


async def test_a_window_says_how_far_it_looked(filled: Connection) -> None:
    page = await find_jobs(filled, JobSearch(text="nowhere"), window=50)
    assert (page.jobs, page.scanned) == ((), 50)
    page = await find_jobs(filled, JobSearch(text="nowhere"), page.next, window=1000)
    assert (page.jobs, page.scanned, page.next) == ((), 250, None)


async def test_large_payloads_are_neither_shown_nor_searched(filled: Connection) -> None:
    noise = "".join(random.Random(2).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    await filled.execute(
        """
        update graphile_worker._private_jobs
        set payload = $1::text::json, last_error = $2::text
        where id = 3
        """,
        f'"needle {noise}"',
        f"Error 12 of 3 {noise}",
    )
    page = await find_jobs(filled, JobSearch(ids=(2, 3)))
    small, large = page.jobs
    assert small.has_payload
    assert small.has_whole_error
    assert not large.has_payload
    assert large.listed.job.payload_json == "null"
    assert large.payload_size > 16384
    assert not large.has_whole_error
    assert large.listed.job.last_error == f"Error 12 of 3 {noise}"[:4000]
    assert (await find_jobs(filled, JobSearch(text="needle"))).jobs == ()
    assert (await find_jobs(filled, JobSearch(text="needle"))).unsearched == 1
    assert (await find_jobs(filled, JobSearch())).unsearched == 0
    assert await stored_payload(filled, 3) == f'"needle {noise}"'


async def test_a_payload_is_as_it_is_stored(filled: Connection) -> None:
    await filled.execute(
        "update graphile_worker._private_jobs set payload = $1::text::json where id = 3",
        '{"a": 1.10, "a":1e400}',
    )
    assert await stored_payload(filled, 3) == '{"a": 1.10, "a":1e400}'
    assert await stored_payload(filled, 100_000) is None
    assert await stored_payload(filled, 2**70) is None


@pytest.mark.parametrize("order", [NEXT_RUN, LATEST_FAILURE])
async def test_times_that_python_does_not_have_end_no_list(filled: Connection, order: JobOrder) -> None:
    page = await find_jobs(filled, JobSearch(order=order, limit=1000))
    times = {one.listed.job.run_at for one in page.jobs}
    assert datetime.max.replace(tzinfo=UTC) in times
    assert datetime.min.replace(tzinfo=UTC) in times


@pytest.mark.parametrize(
    ("search", "option"),
    [
        (JobSearch(text="a\0b"), "text"),
        (JobSearch(text="\ud800"), "text"),
        (JobSearch(key="a\0"), "key"),
        (JobSearch(error="a\0"), "error"),
        (JobSearch(locked_by="a\0"), "locked_by"),
        (JobSearch(identifiers=("a", "b\0")), "identifiers"),
        (JobSearch(queues=("b\0",)), "queues"),
        (JobSearch(flags=("b\0",)), "flags"),
        (JobSearch(limit=0), "limit"),
        (JobSearch(limit=1001), "limit"),
        (JobSearch(offset=-1), "offset"),
        (JobSearch(offset=10_001), "offset"),
        (JobSearch(ids=tuple(range(1001))), "ids"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    connection: Connection, search: JobSearch, option: str
) -> None:
    with pytest.raises(OptionInvalid) as raised:
        await find_jobs(connection, search)
    assert raised.value.option == option


@pytest.mark.parametrize("until_id", [-(2**80), -(2**63), 0, 2**63 - 1, 2**80])
@pytest.mark.parametrize("order", list(JobOrder))
async def test_any_number_can_be_the_highest_id(filled: Connection, order: JobOrder, until_id: int) -> None:
    expected = await by_hand(filled, order, lambda job: job["id"] <= until_id)
    assert ids_of(await pages_of(filled, JobSearch(order=order, until_id=until_id))) == expected


GARBAGE = [
    "",
    "oi",
    "oi_0",
    "oi_0_",
    "oi_0_1_2",
    "oi_00_1",
    "oi_0_01",
    "oi_0_-0",
    "oi_-1_5",
    "oi_10001_5",
    "oi_0_9223372036854775808",
    "o_0_5",
    "o_0_5_6",
    "oi_0_5\n",
    " oi_0_5",
    "oi_0_\u0665",
    "oib_0_5'; drop table",
    "ob_0_5",
    "obi_0_5",
    "r_0_5_9223371331200000000_0",
    "r_0_5_0_32768",
    "r_0_5_0",
    "f_0_5_0_0",
    "x" * 100_000,
]


@pytest.mark.parametrize("order", list(JobOrder))
async def test_what_we_never_wrote_is_no_place(connection: Connection, order: JobOrder) -> None:
    for text in GARBAGE:
        with pytest.raises(OptionInvalid) as raised:
            await find_jobs(connection, JobSearch(order=order), text)
        assert raised.value.option == "after"


async def test_a_place_belongs_to_its_order(filled: Connection) -> None:
    page = await find_jobs(filled, JobSearch(limit=1))
    for order in (NEWEST, NEXT_RUN, LATEST_FAILURE):
        with pytest.raises(OptionInvalid, match=f"in the order oldest, not in {order}"):
            await find_jobs(filled, JobSearch(order=order), page.next)


@pytest.mark.parametrize("id_", [-(2**63), 0, 2**63 - 1])
@pytest.mark.parametrize(
    "run_at", [-(2**63), -211_813_488_000_000_000, 0, 9_223_371_331_199_999_999, 2**63 - 1]
)
@pytest.mark.parametrize("is_backward", [False, True])
async def test_a_forged_place_is_a_place(
    filled: Connection, id_: int, run_at: int, is_backward: object
) -> None:
    """Each that can be written can be looked at, and shows jobs that would be shown anyway."""
    for order, place in (
        (NEXT_RUN, Place(id=id_, run_at=run_at, priority=0)),
        (LATEST_FAILURE, Place(id=id_, run_at=run_at)),
    ):
        cursor = Cursor(order=order, by_id=False, is_backward=bool(is_backward), place=place)
        assert decode(cursor.encode(), order) == cursor
        page = await find_jobs(filled, JobSearch(order=order), cursor.encode())
        assert set(ids_of([page])) <= set(await by_hand(filled, order))
