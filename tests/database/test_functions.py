"""The schema's functions, called as SQL callers call them, one at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.database.sessions import heard
from trio_graphile._database.connection import Executor
from trio_graphile._database.database import Database
from trio_graphile._exceptions import StatementFailed

Row = dict[str, Any]

LATER = datetime(2033, 5, 6, 7, 8, 9, tzinfo=UTC)
EVEN_LATER = LATER + timedelta(days=1)

COLUMNS = """
    id, job_queue_id, task_id, payload::text as payload, priority, run_at, attempts, max_attempts, last_error,
    created_at, updated_at, key, locked_at, locked_by, revision, flags::text as flags, is_available
"""


CASTS = {"payload": "::text::json", "max_attempts": "::integer", "priority": "::integer"}
"""JSON goes as it is written, to the byte, and a number that is too large to the server, to be refused there.

Of all else PostgreSQL finds the type out, as it does for a literal.
"""


def placeholder(name: str, number: int) -> str:
    return f"${number}{CASTS.get(name, '')}"


async def call(executor: Executor, function: str, *positional: object, **named: object) -> list[Row]:
    """Call a function with these values, the named ones by name."""
    arguments = [f"${number}" for number in range(1, len(positional) + 1)]
    arguments += [
        f"{name} => {placeholder(name, number)}" for number, name in enumerate(named, len(positional) + 1)
    ]
    return await rows_of(executor, f"{function}({', '.join(arguments)})", *positional, *named.values())


async def rows_of(executor: Executor, called: str, *values: object) -> list[Row]:
    rows = await executor.fetch(
        f"""
        select {COLUMNS}
        from graphile_worker.{called} with ordinality
        order by ordinality
        """,
        *values,
    )
    return [dict(row) for row in rows]


async def add_job(executor: Executor, identifier: str | None = "a", **options: object) -> Row:
    [row] = await call(executor, "add_job", identifier, **options)
    return row


SPEC = (
    "identifier", "payload", "queue_name", "run_at", "max_attempts", "job_key", "priority", "flags"
)  # fmt: skip

Spec = dict[str, object]
"""The fields of a job_spec; those left out are null."""


def spec(identifier: str | None = "a", **options: object) -> Spec:
    assert options.keys() <= set(SPEC)
    return {"identifier": identifier, **options}


async def add_jobs(executor: Executor, *specs: Spec | None, preserve: bool | None = False) -> list[Row]:
    """Call add_jobs; None is a spec that is null itself."""
    values: list[object] = [preserve]
    written = []
    for each in specs:
        if each is None:
            written.append("null")
            continue
        first = len(values) + 1
        written.append(f"row({', '.join(placeholder(name, n) for n, name in enumerate(SPEC, first))})")
        values += [each.get(name) for name in SPEC]
    array = f"array[{', '.join(written)}]::graphile_worker.job_spec[]"
    return await rows_of(executor, f"add_jobs({array}, $1)", *values)


async def jobs(database: Database) -> list[Row]:
    rows = await database.fetch(f"select {COLUMNS} from graphile_worker._private_jobs order by id")
    return [dict(row) for row in rows]


async def lock(database: Database, job_id: int, age: str = "1 minute", worker: str = "w") -> None:
    """Lock a job and its queue as a worker does, some time ago."""
    await database.execute(
        """
        with claimed as (
          update graphile_worker._private_jobs
          set locked_at = now() - $2::text::interval, locked_by = $3::text, attempts = attempts + 1
          where id = $1::bigint
          returning job_queue_id
        )
        update graphile_worker._private_job_queues as queues
        set locked_at = now() - $2::text::interval, locked_by = $3::text
        from claimed
        where queues.id = claimed.job_queue_id
        """,
        job_id,
        age,
        worker,
    )


async def exhaust(database: Database, job_id: int) -> None:
    await database.execute(
        """
        update graphile_worker._private_jobs
        set attempts = max_attempts, last_error = 'e'
        where id = $1::bigint
        """,
        job_id,
    )


async def locked_queues(database: Database) -> dict[str, str]:
    rows = await database.fetch("""
        select queue_name, locked_by
        from graphile_worker._private_job_queues
        where locked_at is not null
    """)
    return {row["queue_name"]: row["locked_by"] for row in rows}


async def last_values(database: Database) -> dict[str, int | None]:
    rows = await database.fetch(
        "select sequencename, last_value from pg_sequences where schemaname = 'graphile_worker'"
    )
    return {row["sequencename"]: row["last_value"] for row in rows}


def differences(before: Row, after: Row) -> Row:
    return {name: after[name] for name in before if before[name] != after[name]}


def is_nothing(row: Mapping[str, Any]) -> bool:
    return all(value is None for value in row.values())


# --- what is refused ----------------------------------------------------------------------------

REFUSED = [
    pytest.param({"identifier": None}, "23502", None, id="no identifier"),
    pytest.param({"identifier": "x" * 129}, "23514", "tasks_identifier_check", id="identifier"),
    pytest.param({"queue_name": "x" * 129}, "23514", "job_queues_queue_name_check", id="queue"),
    pytest.param({"job_key": ""}, "23514", "jobs_key_check", id="empty key"),
    pytest.param({"job_key": "x" * 513}, "23514", "jobs_key_check", id="long key"),
    pytest.param({"max_attempts": 0}, "23514", "jobs_max_attempts_check", id="max_attempts"),
    pytest.param({"max_attempts": 32768}, "22003", None, id="max_attempts over smallint"),
    pytest.param({"priority": -32769}, "22003", None, id="priority under smallint"),
    pytest.param({"flags": ["a", None]}, "22023", None, id="a null among the flags"),
]


@pytest.mark.parametrize("mode", ["replace", "preserve_run_at", "unsafe_dedupe"])
@pytest.mark.parametrize(("options", "sqlstate", "constraint"), REFUSED)
async def test_add_job_refuses_what_the_table_cannot_hold(
    database: Database, mode: str, options: dict[str, Any], sqlstate: str, constraint: str | None
) -> None:
    with pytest.raises(StatementFailed) as caught:
        await add_job(database, **{"job_key_mode": mode} | options)
    assert (caught.value.sqlstate, caught.value.constraint) == (sqlstate, constraint)
    assert await jobs(database) == []
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 0


@pytest.mark.parametrize(("options", "sqlstate", "constraint"), REFUSED)
@pytest.mark.parametrize("others", [[], [spec()], [spec(job_key="other")]], ids=["alone", "unkeyed", "keyed"])
async def test_add_jobs_refuses_what_the_table_cannot_hold(
    database: Database, others: list[Spec], options: dict[str, Any], sqlstate: str, constraint: str | None
) -> None:
    with pytest.raises(StatementFailed) as caught:
        await add_jobs(database, *others, spec(**options))
    assert (caught.value.sqlstate, caught.value.constraint) == (sqlstate, constraint)
    assert await jobs(database) == []


async def test_a_missing_identifier_is_told_by_the_column(database: Database) -> None:
    for specs in ([None], [spec(), None]):
        with pytest.raises(StatementFailed, match='"identifier" of relation "_private_tasks"') as caught:
            await add_jobs(database, *specs)
        assert caught.value.sqlstate == "23502"


async def test_constraints_hold_for_what_is_given_even_if_nothing_is_added(database: Database) -> None:
    await add_job(database, job_key="k")
    with pytest.raises(StatementFailed) as caught:
        await add_job(database, job_key="k", job_key_mode="unsafe_dedupe", max_attempts=0)
    assert caught.value.constraint == "jobs_max_attempts_check"


async def test_names_may_be_empty_and_as_long_as_the_limit_in_characters(database: Database) -> None:
    await add_job(database, "", queue_name="")
    await add_job(database, "ß" * 128, queue_name="ß" * 128, job_key="ß" * 512)
    assert len(await jobs(database)) == 2
    assert await database.fetch_value("select count(*) from graphile_worker.jobs where queue_name = ''") == 1


async def test_an_unknown_mode_matters_only_with_a_key(database: Database) -> None:
    await add_job(database, job_key_mode="nonsense")
    with pytest.raises(
        StatementFailed, match="expected 'replace', 'preserve_run_at' or 'unsafe_dedupe'"
    ) as caught:
        await add_job(database, job_key="k", job_key_mode="nonsense")
    assert caught.value.sqlstate == "GWBKM"
    assert len(await jobs(database)) == 1


async def test_no_mode_is_replace(database: Database) -> None:
    await add_job(database, job_key="k", run_at=LATER)
    again = await add_job(database, job_key="k", job_key_mode=None, run_at=EVEN_LATER)
    assert (again["revision"], again["run_at"]) == (1, EVEN_LATER)


@pytest.mark.parametrize("others", [[], [spec("b", queue_name="q"), spec(job_key="other")]])
async def test_one_key_twice_in_a_call_is_an_error_before_anything_is_written(
    database: Database, others: list[Spec]
) -> None:
    before = await last_values(database)
    async with heard(database, "jobs:insert") as payloads:
        with pytest.raises(StatementFailed, match='"the key" stands twice') as caught:
            await add_jobs(database, spec(job_key="the key"), *others, spec(job_key="the key"))
    assert caught.value.sqlstate == "21000"
    assert payloads == []
    assert await last_values(database) == before


# --- a new job ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("function", ["add_job", "add_jobs", "add_jobs of two"])
async def test_a_bare_job_gets_the_defaults(database: Database, function: str, key: str | None) -> None:
    if function == "add_job":
        row = await add_job(database, job_key=key)
    else:
        count = 1 if function == "add_jobs" else 2
        row = (await add_jobs(database, spec(job_key=key), *[spec()] * (count - 1)))[0]
    assert row == (await jobs(database))[0]
    now = row["created_at"]
    assert row == {
        "id": 1,
        "job_queue_id": None,
        "task_id": 1,
        "payload": "{}",
        "priority": 0,
        "run_at": now,
        "attempts": 0,
        "max_attempts": 25,
        "last_error": None,
        "created_at": now,
        "updated_at": now,
        "key": key,
        "locked_at": None,
        "locked_by": None,
        "revision": 0,
        "flags": None,
        "is_available": True,
    }


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("function", ["add_job", "add_jobs", "add_jobs of two"])
async def test_everything_given_is_stored(database: Database, function: str, key: str | None) -> None:
    options: Spec = {
        "payload": '{"b": 1,  "a": [1e3, "\\u0000"], "b": null }',
        "queue_name": "q",
        "run_at": LATER,
        "max_attempts": 3,
        "job_key": key,
        "priority": -7,
        "flags": ["y", "x", "y"],
    }
    if function == "add_job":
        row = await add_job(database, "a", **options)
    else:
        count = 1 if function == "add_jobs" else 2
        row = (await add_jobs(database, spec("a", **options), *[spec()] * (count - 1)))[0]
    assert row["payload"] == '{"b": 1,  "a": [1e3, "\\u0000"], "b": null }'
    assert (row["run_at"], row["max_attempts"], row["priority"]) == (LATER, 3, -7)
    assert json.loads(row["flags"]) == {"x": True, "y": True}
    shown = await database.fetch_row("select * from graphile_worker.jobs where priority = -7")
    assert shown is not None
    assert (shown["queue_name"], shown["task_identifier"]) == ("q", "a")


async def test_a_json_null_is_a_payload_and_no_flags_are_no_flags(database: Database) -> None:
    row = await add_job(database, payload="null", flags=[])
    assert (row["payload"], row["flags"]) == ("null", None)
    rows = await add_jobs(database, spec(payload="null", flags=[]), spec())
    assert [(row["payload"], row["flags"]) for row in rows] == [("null", None), ("{}", None)]


async def test_populating_specs_from_json_makes_null_of_null(database: Database) -> None:
    """That is how the workers of other languages call it."""
    [row] = await rows_of(
        database,
        """add_jobs(array(
          select json_populate_recordset(
            null::graphile_worker.job_spec,
            '[{"identifier": "a", "payload": null, "flags": ["f"]}]'
          )
        ))""",
    )
    assert (row["payload"], row["flags"]) == ("{}", '{"f": true}')


# --- many at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [None, []], ids=["null", "none"])
async def test_adding_nothing_adds_nothing_and_notifies_with_nothing(
    database: Database, empty: list[Spec] | None
) -> None:
    async with heard(database, "jobs:insert") as payloads:
        assert await call(database, "add_jobs", empty) == []
    assert payloads == [""]


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("count", [5, 300])
async def test_rows_and_ids_come_in_the_order_of_the_specs(
    database: Database, count: int, *, keyed: bool, analyzed: bool
) -> None:
    if analyzed:
        await add_jobs(database, *(spec(f"t{n % 7}", queue_name=f"q{n % 5}") for n in range(50)))
        await database.execute("analyze graphile_worker._private_jobs, graphile_worker._private_tasks")
    rows = await add_jobs(
        database,
        *(
            spec(
                f"t{n % 7}",
                payload=str(n),
                queue_name=f"q{-n % 5}" if n % 3 else None,
                job_key=f"key {-n % 11} {n}" if keyed and n % 4 else None,
                priority=-n % 4,
            )
            for n in range(count)
        ),
    )
    assert [row["payload"] for row in rows] == [str(n) for n in range(count)]
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids)
    assert ids == list(range(ids[0], ids[0] + count))


async def test_free_running_exhausted_and_new_keys_in_one_call(database: Database) -> None:
    free, running, exhausted = [await add_job(database, job_key=k) for k in ("free", "running", "dead")]
    await lock(database, running["id"])
    await exhaust(database, exhausted["id"])
    names = ["new", "dead", "free", "running"]
    rows = await add_jobs(database, spec(), *(spec(payload=f'"{k}"', job_key=k) for k in names))
    assert [row["key"] for row in rows] == [None, *names]
    assert [row["revision"] for row in rows] == [0, 0, 0, 1, 0]
    assert rows[3]["id"] == free["id"]
    new_ids = [row["id"] for row in rows if row["id"] != free["id"]]
    assert new_ids == sorted(new_ids)
    left = {row["id"]: row for row in await jobs(database)}
    assert len(left) == 7
    for old in (running, exhausted):
        assert (left[old["id"]]["key"], left[old["id"]]["attempts"]) == (None, 25)


async def test_names_that_exist_consume_no_id(database: Database) -> None:
    async def add_by_every_way() -> None:
        await add_job(database, "a", queue_name="q")
        await add_job(database, "a", queue_name="q", job_key="k")
        await add_job(database, "a", queue_name="q", job_key="k", job_key_mode="unsafe_dedupe")
        await add_jobs(database, spec("a", queue_name="q"), spec("b", queue_name="r"))
        await add_jobs(database, spec("a", queue_name="q", job_key="l"), spec("b"))

    await add_by_every_way()
    before = await last_values(database)
    await add_by_every_way()
    after = await last_values(database)
    assert (before["tasks_id_seq"], before["job_queues_id_seq"]) == (2, 2)
    assert (after["tasks_id_seq"], after["job_queues_id_seq"]) == (2, 2)


async def test_many_thousand_keys_in_one_call(database: Database) -> None:
    add = """
        select count(*)
        from graphile_worker.add_jobs(array(
          select row('a', null, null, null, null, 'key ' || n, null, null)::graphile_worker.job_spec
          from generate_series(1, 20000) as n
        ))
    """
    for _ in range(2):
        assert await database.fetch_value(add) == 20_000
    assert (
        await database.fetch_value("select count(*) from graphile_worker.jobs where revision = 1") == 20_000
    )


# --- the same key again -------------------------------------------------------------------------


async def keyed_job(database: Database, state: str) -> Row:
    """Add a job under the key `k`, in one of the five states that matter."""
    job = await add_job(
        database,
        "old",
        payload='{"old": 1}',
        queue_name="old",
        run_at=LATER,
        max_attempts=3,
        job_key="k",
        priority=9,
        flags=["old"],
    )
    match state:
        case "tried":
            await database.execute("update graphile_worker._private_jobs set attempts = 1, last_error = 'e'")
        case "dead":
            await exhaust(database, job["id"])
        case "running":
            await lock(database, job["id"])
        case "stuck":
            await lock(database, job["id"], age="5 hours")
        case _:
            assert state == "new"
    [row] = await jobs(database)
    return row


async def add_again(database: Database, mode: str, *, through: str) -> Row:
    if through == "add_job":
        return await add_job(
            database, "new", payload='{"new": 1}', run_at=EVEN_LATER, job_key="k",
            job_key_mode=mode,
        )  # fmt: skip
    again = spec("new", payload='{"new": 1}', run_at=EVEN_LATER, job_key="k")
    others = [spec("new")] if through == "add_jobs of two" else []
    preserve = True if mode == "preserve_run_at" else None
    return (await add_jobs(database, again, *others, preserve=preserve))[0]


EVERY_WAY = ["add_job", "add_jobs", "add_jobs of two"]


@pytest.mark.parametrize("through", EVERY_WAY)
@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
@pytest.mark.parametrize("state", ["new", "tried"])
async def test_a_waiting_job_is_overwritten_whole(
    database: Database, state: str, mode: str, through: str
) -> None:
    """What is not given goes back to its default; id and creation stay.

    So does the time, if that is wished and the job was never tried.
    """
    before = await keyed_job(database, state)
    after = await add_again(database, mode, through=through)
    assert after == (await jobs(database))[0]
    kept_time = mode == "preserve_run_at" and state == "new"
    assert after == before | {
        "task_id": 2,
        "job_queue_id": None,
        "payload": '{"new": 1}',
        "run_at": LATER if kept_time else EVEN_LATER,
        "max_attempts": 25,
        "priority": 0,
        "flags": None,
        "attempts": 0,
        "last_error": None,
        "revision": 1,
        "updated_at": after["updated_at"],
    }
    assert after["updated_at"] > before["updated_at"]


@pytest.mark.parametrize("through", EVERY_WAY)
@pytest.mark.parametrize("mode", ["replace", "preserve_run_at"])
@pytest.mark.parametrize("state", ["dead", "running", "stuck"])
async def test_a_dead_or_running_job_is_detached_and_a_new_one_added(
    database: Database, state: str, mode: str, through: str
) -> None:
    before = await keyed_job(database, state)
    added = await add_again(database, mode, through=through)
    old, new, *_ = await jobs(database)
    assert new == added
    assert new["id"] != old["id"]
    assert (new["key"], new["revision"], new["run_at"], new["payload"]) == ("k", 0, EVEN_LATER, '{"new": 1}')
    assert set(differences(before, old)) <= {"key", "attempts", "updated_at"}
    assert (old["key"], old["attempts"]) == (None, 3)
    assert old["locked_at"] is None or old["updated_at"] >= old["locked_at"]
    assert old["updated_at"] > before["updated_at"]


@pytest.mark.parametrize("state", ["new", "tried", "dead", "running", "stuck"])
async def test_unsafe_dedupe_only_counts(database: Database, state: str) -> None:
    before = await keyed_job(database, state)
    async with heard(database, "jobs:insert") as payloads:
        after = await add_again(database, "unsafe_dedupe", through="add_job")
    assert payloads == []
    [stored] = await jobs(database)
    assert after == stored
    assert set(differences(before, after)) == {"revision", "updated_at"}
    assert after["revision"] == 1
    # The names are registered all the same.
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 2


async def test_modes_in_turn(database: Database) -> None:
    seen = []
    for n, mode in enumerate(["replace", "preserve_run_at", "unsafe_dedupe", "replace"]):
        row = await add_job(
            database, payload=str(n), run_at=LATER + timedelta(days=n), job_key="k",
            job_key_mode=mode,
        )  # fmt: skip
        seen.append((row["revision"], row["payload"], (row["run_at"] - LATER).days))
    assert seen == [(0, "0", 0), (1, "1", 0), (2, "1", 0), (3, "3", 3)]


@pytest.mark.parametrize("function", ["add_job", "add_jobs", "remove_job"])
async def test_a_detached_job_is_not_older_than_its_claim(database: Database, function: str) -> None:
    """Our now() is that of our transaction, which may have begun before the worker's claim."""
    job = await add_job(database, job_key="k")
    await lock(database, job["id"], age="-10 seconds")
    match function:
        case "add_job":
            await add_job(database, job_key="k")
        case "add_jobs":
            await add_jobs(database, spec(job_key="k"), spec())
        case _:
            await call(database, "remove_job", "k")
    [old, *_] = await jobs(database)
    assert (old["key"], old["updated_at"]) == (None, old["locked_at"])


# --- merging arrays -----------------------------------------------------------------------------


@pytest.mark.parametrize("through", EVERY_WAY)
@pytest.mark.parametrize(
    ("stored", "added", "merged"),
    [
        ("[1, 2]", "[2, 3]", "[1, 2, 2, 3]"),
        ("[]", "[1]", "[1]"),
        ("[1]", "[]", "[1]"),
        (" [ ] ", "[\t]", "[\t]"),
        (" [1\n]\r\n", "\t[ [2], []]", "[1\n,  [2], []]"),
        ("[[1]]", "[[[2]]]", "[[1], [[2]]]"),
        ('["]", "["]', '["["]', '["]", "[", "["]'),
        (
            '[{"b":1, "a":1e3, "b": 2.50}]',
            '[{"z":"\\u0000", "a":-0}]',
            '[{"b":1, "a":1e3, "b": 2.50}, {"z":"\\u0000", "a":-0}]',
        ),
        ('{"a": 1}', "[1]", "[1]"),
        ("[1]", '{"a":  1}', '{"a":  1}'),
        ("[1]", "null", "null"),
        ("null", "[1]", "[1]"),
    ],
)
async def test_two_arrays_become_one_byte_for_byte_and_all_else_is_replaced(
    database: Database, through: str, stored: str, added: str, merged: str
) -> None:
    await add_job(database, payload=stored, job_key="k")
    if through == "add_job":
        await add_job(database, payload=added, job_key="k")
    else:
        others = [spec()] if through == "add_jobs of two" else []
        await add_jobs(database, spec(payload=added, job_key="k"), *others)
    [row, *_] = await jobs(database)
    assert (row["payload"].strip(), row["revision"]) == (merged.strip(), 1)
    assert row["is_available"]


async def test_no_payload_replaces_an_array_and_detaching_does_not_merge(database: Database) -> None:
    await add_job(database, payload="[1]", job_key="k")
    assert (await add_job(database, job_key="k"))["payload"] == "{}"
    job = await add_job(database, payload="[2]", job_key="k")
    await lock(database, job["id"])
    assert (await add_job(database, payload="[3]", job_key="k"))["payload"] == "[3]"


# --- remove_job ---------------------------------------------------------------------------------


async def test_removing_without_a_key_or_with_an_unknown_one_does_nothing(database: Database) -> None:
    await add_job(database)
    async with heard(database, "jobs:insert") as payloads:
        for key in (None, "unknown"):
            [row] = await call(database, "remove_job", key)
            assert is_nothing(row)
    assert payloads == []
    assert len(await jobs(database)) == 1


@pytest.mark.parametrize("state", ["new", "tried", "dead", "stuck"])
async def test_a_job_that_nobody_runs_is_removed_and_its_stuck_queue_freed(
    database: Database, state: str
) -> None:
    before = await keyed_job(database, state)
    async with heard(database, "jobs:insert") as payloads:
        assert await call(database, "remove_job", "k") == [before]
    assert [json.loads(payload)["count"] for payload in payloads] == [-1]
    assert await jobs(database) == []
    assert await locked_queues(database) == {}


async def test_a_running_job_is_detached_instead_of_removed(database: Database) -> None:
    before = await keyed_job(database, "running")
    async with heard(database, "jobs:insert") as payloads:
        [after] = await call(database, "remove_job", "k")
    assert payloads == []
    assert [after] == await jobs(database)
    assert set(differences(before, after)) == {"key", "attempts", "updated_at"}
    assert (after["key"], after["attempts"]) == (None, 3)
    assert await locked_queues(database) == {"old": "w"}


# --- complete_jobs, permanently_fail_jobs, reschedule_jobs --------------------------------------

CHANGES = ["complete_jobs", "permanently_fail_jobs", "reschedule_jobs"]


@pytest.mark.parametrize("function", CHANGES)
async def test_a_change_takes_what_nobody_runs_and_frees_the_queues_of_stale_locks(
    database: Database, function: str
) -> None:
    free, dead, running, stuck, other = [await add_job(database, queue_name=f"q{n}") for n in range(5)]
    await exhaust(database, dead["id"])
    await lock(database, running["id"])
    await lock(database, stuck["id"], age="4 hours 1 second")
    await lock(database, other["id"], age="3 hours 59 minutes")
    async with heard(database, "jobs:insert") as payloads:
        ids = [free["id"], dead["id"], running["id"], stuck["id"], free["id"], 999]
        changed = await call(database, function, [*ids, None])
    assert payloads == []
    assert sorted(row["id"] for row in changed) == [free["id"], dead["id"], stuck["id"]]
    assert await locked_queues(database) == {"q2": "w", "q4": "w"}
    left = {row["id"]: row for row in await jobs(database)}
    assert left[running["id"]]["locked_by"] == left[other["id"]]["locked_by"] == "w"
    if function == "complete_jobs":
        assert set(left) == {running["id"], other["id"]}
    else:
        assert (left[stuck["id"]]["locked_at"], left[stuck["id"]]["locked_by"]) == (None, None)


@pytest.mark.parametrize("function", CHANGES)
async def test_a_queue_that_was_claimed_since_stays_locked(database: Database, function: str) -> None:
    """The lock of the job is a leftover, that of its queue belongs to a job that runs."""
    job = await add_job(database, queue_name="q")
    await lock(database, job["id"], age="5 hours")
    await database.execute("update graphile_worker._private_job_queues set locked_at = now()")
    await call(database, function, [job["id"]])
    assert await locked_queues(database) == {"q": "w"}
    await database.execute("""
        update graphile_worker._private_job_queues
        set locked_at = now() - interval '5 hours', locked_by = 'x'
    """)
    await call(database, function, [job["id"]])
    assert await locked_queues(database) == {"q": "x"}


@pytest.mark.parametrize("function", CHANGES)
@pytest.mark.parametrize("ids", [None, [], [None]], ids=["null", "none", "a null"])
async def test_a_change_of_nothing_changes_nothing(
    database: Database, function: str, ids: list[None] | None
) -> None:
    await add_job(database)
    before = await jobs(database)
    assert await call(database, function, ids) == []
    assert await jobs(database) == before


async def test_completing_returns_what_it_deleted(database: Database) -> None:
    job = await add_job(database, payload="[1]")
    assert await call(database, "complete_jobs", [job["id"]]) == [job]
    assert await jobs(database) == []


@pytest.mark.parametrize(
    ("message", "stored"),
    [("why", "why"), (None, "Manually marked as failed"), ("", "")],
)
async def test_failing_for_good_spends_all_attempts(
    database: Database, message: str | None, stored: str
) -> None:
    before = await add_job(database, job_key="k", run_at=LATER, max_attempts=7)
    [after] = await call(database, "permanently_fail_jobs", [before["id"]], message)
    assert [after] == await jobs(database)
    assert set(differences(before, after)) == {"attempts", "last_error", "updated_at", "is_available"}
    assert (after["attempts"], after["last_error"], after["is_available"]) == (7, stored, False)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ({}, {}),
        ({"run_at": LATER}, {"run_at": LATER}),
        ({"priority": 0}, {"priority": 0}),
        ({"attempts": 0}, {"attempts": 0}),
        ({"attempts": -1}, {"attempts": -1}),
        ({"attempts": 99}, {"attempts": 99, "is_available": False}),
        ({"max_attempts": 1}, {"max_attempts": 1, "is_available": False}),
        (
            {"run_at": LATER, "priority": 1, "attempts": 2, "max_attempts": 3},
            {"run_at": LATER, "priority": 1, "attempts": 2, "max_attempts": 3},
        ),
    ],
)
async def test_rescheduling_changes_what_is_given(
    database: Database, arguments: dict[str, object], changes: Row
) -> None:
    await add_job(database, priority=5, max_attempts=9, job_key="k")
    await database.execute("update graphile_worker._private_jobs set attempts = 4, last_error = 'e'")
    [before] = await jobs(database)
    [after] = await call(database, "reschedule_jobs", [before["id"]], **arguments)
    assert [after] == await jobs(database)
    assert after["updated_at"] > before["updated_at"]
    assert differences(before, after) == changes | {"updated_at": after["updated_at"]}


@pytest.mark.parametrize(
    ("argument", "value", "sqlstate"),
    [
        ("priority", 32768, "22003"),
        ("attempts", 32768, "22003"),
        ("max_attempts", 32768, "22003"),
        ("max_attempts", 0, "23514"),
    ],
)
async def test_rescheduling_refuses_what_the_table_cannot_hold(
    database: Database, argument: str, value: int, sqlstate: str
) -> None:
    job = await add_job(database)
    with pytest.raises(StatementFailed) as caught:
        await call(database, "reschedule_jobs", [job["id"]], **{argument: value})
    assert caught.value.sqlstate == sqlstate


async def test_a_stuck_job_that_is_rescheduled_can_run_again(database: Database) -> None:
    job = await add_job(database, queue_name="q")
    await lock(database, job["id"], age="5 hours")
    now = await database.fetch_value("select now()")
    [after] = await call(database, "reschedule_jobs", [job["id"]], now)
    assert (after["is_available"], after["attempts"]) == (True, 1)


# --- workers ------------------------------------------------------------------------------------


async def test_force_unlock_frees_jobs_and_queues_of_these_workers_and_changes_nothing_else(
    database: Database,
) -> None:
    for n in range(3):
        job = await add_job(database, queue_name=f"q{n}")
        await lock(database, job["id"], worker=f"w{n}")
    before = await jobs(database)
    unlock = "select graphile_worker.force_unlock_workers($1)"
    for nobody in (None, [], ["unknown"]):
        await database.execute(unlock, nobody)
    assert await jobs(database) == before
    await database.execute(unlock, ["w1", "w2"])
    after = await jobs(database)
    assert after[0] == before[0]
    for old, new in zip(before[1:], after[1:], strict=True):
        assert new == old | {"locked_at": None, "locked_by": None, "is_available": True}
    assert await locked_queues(database) == {"q0": "w0"}


async def test_a_heartbeat_registers_and_renews(database: Database) -> None:
    async def beat(worker: str | None, *metadata: str) -> Row:
        arguments = "$1, $2::text::json" if metadata else "$1"
        await database.execute(f"select graphile_worker.worker_heartbeat({arguments})", worker, *metadata)
        row = await database.fetch_row(
            "select id, last_heartbeat_at, started_at, metadata::text from graphile_worker._private_workers"
        )
        assert row is not None
        return dict(row)

    first = await beat("w", '{"a": 1}')
    assert first["started_at"] == first["last_heartbeat_at"]
    second = await beat("w")
    assert set(differences(first, second)) == {"last_heartbeat_at"}
    third = await beat("w", "null")
    assert third["metadata"] == "null"
    assert third["started_at"] == first["started_at"]
    with pytest.raises(StatementFailed) as caught:
        await beat(None)
    assert caught.value.sqlstate == "23502"
    await database.execute("select graphile_worker.worker_deregister('unknown')")
    assert await database.fetch_value("select count(*) from graphile_worker._private_workers") == 1
    await database.execute("select graphile_worker.worker_deregister('w')")
    assert await database.fetch_value("select count(*) from graphile_worker._private_workers") == 0


async def test_workers_are_stale_when_silent_and_orphaned_when_unregistered(database: Database) -> None:
    await database.execute("""
        insert into graphile_worker._private_workers (id, last_heartbeat_at)
        values ('silent', now() - interval '2 minutes'), ('alive', now())
    """)
    for worker, age in [("silent", "1 hour"), ("alive", "1 hour"), ("gone", "1 hour"), ("new", "1 second")]:
        for _ in range(2):
            job = await add_job(database)
            await lock(database, job["id"], age=age, worker=worker)
    await database.execute("""
        insert into graphile_worker._private_job_queues (queue_name, locked_at, locked_by)
        values ('q', now() - interval '1 hour', 'gone with a queue')
    """)

    async def listed(function: str, threshold: str) -> list[str]:
        rows = await database.fetch(
            f"select worker_id from graphile_worker.{function}($1::text::interval)", threshold
        )
        return sorted(row["worker_id"] for row in rows)

    assert await listed("list_stale_workers", "1 minute") == ["silent"]
    assert await listed("list_stale_workers", "3 minutes") == []
    assert await listed("list_orphan_locked_workers", "1 minute") == ["gone", "gone with a queue"]
    assert await listed("list_orphan_locked_workers", "0") == ["gone", "gone with a queue", "new"]
    await database.execute("select graphile_worker.delete_stale_workers('{silent,unknown}')")
    assert await database.fetch_value("select id from graphile_worker._private_workers") == "alive"


async def test_the_jobs_of_a_dead_worker_get_their_attempt_back(database: Database) -> None:
    for n, run_at in enumerate([None, LATER, None]):
        job = await add_job(database, queue_name=f"q{n}", run_at=run_at)
        await lock(database, job["id"], worker="dead" if n < 2 else "alive")
    await database.execute("update graphile_worker._private_jobs set attempts = 0 where id = 2")
    before = await jobs(database)
    recover = "select graphile_worker.recover_dead_worker_jobs"
    async with heard(database, "jobs:insert") as payloads:
        assert await database.fetch_value(f"{recover}($1)", None) == 0
        delay = timedelta(seconds=30)
        assert await database.fetch_value(f"{recover}($1, $2)", ["dead", "unknown"], delay) == 2
    assert payloads == []
    soon, late, alive = await jobs(database)
    assert alive == before[2]
    assert await locked_queues(database) == {"q2": "alive"}
    for old, new in zip(before[:2], (soon, late), strict=True):
        assert (new["attempts"], new["is_available"]) == (0, True)
        assert new["last_error"] == "Job recovered after worker interruption"
        assert new["updated_at"] > old["updated_at"]
    assert soon["run_at"] == soon["updated_at"] + timedelta(seconds=30)
    assert late["run_at"] == LATER


async def test_a_job_that_was_replaced_while_its_worker_died_does_not_run_again(database: Database) -> None:
    job = await add_job(database, job_key="k")
    await lock(database, job["id"])
    await add_job(database, job_key="k")
    await database.execute("select graphile_worker.recover_dead_worker_jobs('{w}')")
    old, new = await jobs(database)
    assert (old["attempts"], old["is_available"], old["locked_by"]) == (25, False, None)
    assert new["is_available"]


# --- notifications ------------------------------------------------------------------------------


async def test_each_call_notifies_once_with_its_count(database: Database) -> None:
    async with heard(database, "jobs:insert") as payloads, database.transaction() as connection:
        for _ in range(3):
            await connection.execute("select graphile_worker.add_job('a')")
        await add_jobs(connection, *[spec()] * 5)
        await add_jobs(connection, spec())
        await connection.execute("select graphile_worker.add_job('a', job_key => 'k')")
        await add_job(connection, job_key="k", run_at=LATER)
        await connection.execute(
            "select graphile_worker.add_job('a', job_key => 'd', job_key_mode => 'unsafe_dedupe')"
        )
        await connection.execute(
            "select graphile_worker.add_job('a', job_key => 'd', job_key_mode => 'unsafe_dedupe')"
        )
        assert payloads == []
    sent = [json.loads(payload) for payload in payloads]
    assert [notification["count"] for notification in sent] == [1, 1, 1, 5, 1, 1, 1, 1]
    assert all(set(notification) == {"r", "count"} for notification in sent)


async def test_what_is_rolled_back_notifies_nobody_and_leaves_nothing(database: Database) -> None:
    async with heard(database, "jobs:insert") as payloads, database.connection() as connection:
        await connection.execute("begin")
        await connection.execute("select graphile_worker.add_job('a', queue_name => 'q')")
        await connection.execute("rollback")
    assert payloads == []
    assert await jobs(database) == []
    assert await database.fetch_value("select count(*) from graphile_worker._private_tasks") == 0


async def test_nothing_else_notifies(database: Database) -> None:
    job = await add_job(database)
    async with heard(database, "jobs:insert") as payloads:
        await database.execute("insert into graphile_worker._private_jobs (task_id) values (1)")
        for function in ("reschedule_jobs", "permanently_fail_jobs", "complete_jobs"):
            assert len(await call(database, function, [job["id"]])) == 1
        await database.execute("select graphile_worker.force_unlock_workers('{w}')")
    assert payloads == []


@pytest.mark.parametrize(
    "statement",
    [
        "select graphile_worker.add_job('t', job_key => 'k' || n) from generate_series(1, 20) as n",
        """
        select graphile_worker.add_jobs(
          array[
            row('t', null, null, null, null, 'k', null, null),
            row('t', null, null, null, null, 'l', null, null)
          ]::graphile_worker.job_spec[]
        )
        """,
        "select graphile_worker.remove_job('k')",
        "select graphile_worker.reschedule_jobs('{1}', priority => 1)",
        "select graphile_worker.permanently_fail_jobs('{1}')",
        "select graphile_worker.complete_jobs('{1}')",
    ],
)
async def test_a_plan_made_for_an_empty_table_does_not_read_all_of_a_full_one(
    database: Database, statement: str
) -> None:
    """An emptied table that was vacuumed has no pages, and to read none of them is the cheapest of plans."""
    await database.execute("vacuum graphile_worker._private_jobs")
    async with database.connection() as connection:
        for _ in range(8):  # from the sixth time on, a session keeps its plan
            await connection.execute(statement)
            await connection.execute("delete from graphile_worker._private_jobs")
        await connection.execute(
            "insert into graphile_worker._private_jobs (task_id) select 1 from generate_series(1, 2000)"
        )
        async with connection.transaction():
            before = await connection.fetch_value(ROWS_READ_ONE_BY_ONE)
            await connection.execute(statement)
            assert await connection.fetch_value(ROWS_READ_ONE_BY_ONE) == before


ROWS_READ_ONE_BY_ONE = "select seq_tup_read from pg_stat_xact_user_tables where relname = '_private_jobs'"
