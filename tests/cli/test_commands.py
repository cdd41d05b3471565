"""The commands that look at the queue and change it: what people see, and what scripts read."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cli.program import Program
from trio_graphile import Client, Database, JobSpec
from trio_graphile._database import worker_registry
from trio_graphile._model.verbatim import format_time

JOB_KEYS = {
    "id", "task_id", "task_identifier", "job_queue_id", "payload", "priority", "run_at", "attempts",
    "max_attempts", "last_error", "created_at", "updated_at", "key", "revision", "locked_at",
    "locked_by", "flags",
}  # fmt: skip
LISTED_KEYS = (JOB_KEYS - {"task_id", "job_queue_id"}) | {"queue_name", "is_available"}
HEADER = "id\ttask\tqueue\tstate\trun_at\tattempts\tpriority\tkey\tlocked_by"
FAR = "2099-01-31T08:00:00+02:00"
LOCK = """
    update graphile_worker._private_jobs
    set locked_by = $2::text, locked_at = now(), attempts = attempts + 1
    where id = any($1::bigint[])
"""
LOCK_QUEUE = """
    update graphile_worker._private_job_queues
    set locked_by = $2::text, locked_at = now()
    where queue_name = $1::text
"""


async def said(program: Program, *arguments: str) -> Any:
    """Run a command that must succeed; return the JSON that it prints."""
    ended = await program.run(*arguments, "--json")
    assert (ended.exit_code, ended.errors) == (0, "")
    return json.loads(ended.output)


async def text(program: Program, *arguments: str) -> str:
    ended = await program.run(*arguments)
    assert (ended.exit_code, ended.errors) == (0, "")
    return ended.output


async def error(program: Program, *arguments: str, exit_code: int) -> str:
    ended = await program.run(*arguments)
    assert ended.exit_code == exit_code
    return ended.error


# --- one job's life -----------------------------------------------------------------------------


async def test_a_job_is_added_listed_shown_rescheduled_failed_and_completed(shop: Program) -> None:
    added = await said(
        shop, "add", "resize", "--payload", '{"path": "ä.png"}', "--queue", "images", "--key", "k",
        "--priority", "7", "--run-at", FAR, "--max-attempts", "3", "--flag", "slow", "--flag", "big",
    )  # fmt: skip
    assert added.keys() >= JOB_KEYS
    assert added["run_at"] == "2099-01-31T06:00:00Z"
    assert added["flags"] == {"big": True, "slow": True}
    assert added["payload"] == {"path": "ä.png"}
    assert isinstance(added["task_id"], int)
    assert isinstance(added["job_queue_id"], int)
    id_ = str(added["id"])

    assert await text(shop, "list") == (
        f"{HEADER}\n{id_}\tresize\timages\tscheduled\t2099-01-31T06:00:00Z\t0/3\t7\tk\t-\n"
    )
    [listed] = await said(shop, "list")
    assert listed.keys() >= LISTED_KEYS
    assert await said(shop, "show", id_) == listed
    shown = await text(shop, "show", id_)
    assert "queue_name: images\n" in shown
    assert shown.endswith('payload:\n    {\n      "path": "ä.png"\n    }\n')

    [changed] = await said(shop, "reschedule", id_, "--now", "--priority", "0")
    assert changed.keys() >= JOB_KEYS
    assert (changed["priority"], changed["max_attempts"]) == (0, 3)
    [ready] = await said(shop, "list", "--state", "ready")
    assert datetime.fromisoformat(ready["run_at"]) <= datetime.now(UTC) + timedelta(seconds=5)

    assert await text(shop, "fail", id_, "-r", "wrong size") == f"failed 1 job: {id_}\n"
    [failed] = await said(shop, "list", "--state", "failed")
    assert (failed["last_error"], failed["attempts"]) == ("wrong size", 3)

    assert await text(shop, "complete", id_) == f"completed 1 job: {id_}\n"
    assert await said(shop, "list") == []


async def test_what_goes_through_a_pipe_is_never_cut(shop: Program, database: Database) -> None:
    """However narrow the terminal is said to be."""
    name, queue = "send-welcome-to-whoever-is-new", "one after the other, and no two at once"
    job = await Client(database).add_raw_job(name, None, JobSpec(queue_name=queue))
    narrow = shop.with_environment(COLUMNS="20")
    run_at = format_time(job.run_at)
    assert await text(narrow, "list") == (
        f"{HEADER}\n{job.id}\t{name}\t{queue}\tready\t{run_at}\t0/25\t0\t-\t-\n"
    )
    for command, whole in (("tasks", name), ("queues", queue), ("workers", "locked_queues")):
        cells = {cell for line in (await text(narrow, command)).splitlines() for cell in line.split("\t")}
        assert whole in cells


async def test_a_payload_comes_from_a_file_and_is_shown_as_it_is_stored(
    shop: Program, database: Database
) -> None:
    (shop.folder / "payload.json").write_text('{"b": 1.10, "a": 123456789012345678901234567890}')
    assert (await text(shop, "add", "count", "--payload-file", "payload.json")).startswith("added job ")
    from_input = await text(shop.in_shell("< payload.json"), "add", "count", "--payload-file", "-")
    assert from_input.startswith("added job ")
    await database.execute(
        """update graphile_worker._private_jobs set payload = '{"b": 1e400,  "a": 1.10}'"""
    )
    ended = await shop.run("list", "--json")
    assert '"payload": {"b": 1e400,  "a": 1.10}' in ended.output


async def test_a_payload_is_shown_with_its_numbers_as_they_are_written(
    shop: Program, database: Database
) -> None:
    stored = (
        r'{"b": 1.10, "a": [1e400, {}, [], {"\u00e4{": 12345678901234567890.12345678901234567890}], "b": 2}'
    )
    id_ = await database.fetch_value("select id from graphile_worker.add_job('a', $1::text::json)", stored)
    assert (await text(shop, "show", str(id_))).endswith("""payload:
    {
      "b": 1.10,
      "a": [
        1e400,
        {},
        [],
        {
          "ä{": 12345678901234567890.12345678901234567890
        }
      ],
      "b": 2
    }
""")


async def test_a_job_under_a_key_is_replaced_or_not_as_the_mode_says(shop: Program) -> None:
    first = await said(shop, "add", "a", "--key", "k", "--run-at", FAR)
    kept = await said(shop, "add", "a", "--key", "k", "--job-key-mode", "preserve-run-at", "--run-at", "now")
    assert (kept["id"], kept["run_at"], kept["revision"]) == (first["id"], first["run_at"], 1)
    again = await said(shop, "add", "b", "--key", "k", "--job-key-mode", "unsafe-dedupe")
    assert again["task_identifier"] == "a"


# --- lists --------------------------------------------------------------------------------------


@pytest.fixture
async def crowd(database: Database) -> dict[str, int]:
    """A job in each state, by state."""
    client = Client(database)
    ready, scheduled, locked, failed = await client.add_raw_jobs(
        [
            ("a", 1, JobSpec(queue_name="q")),
            ("a", 2, JobSpec(run_at=datetime(2099, 1, 1, tzinfo=UTC))),
            ("b", 3, JobSpec(queue_name="q2")),
            ("b", 4, JobSpec(priority=7)),
        ]
    )
    await client.permanently_fail_jobs([failed.id])
    await database.execute(LOCK, [locked.id], "worker-1")
    await database.execute(LOCK_QUEUE, "q2", "worker-1")
    return {"ready": ready.id, "scheduled": scheduled.id, "locked": locked.id, "failed": failed.id}


async def test_lists_are_filtered_and_paged(shop: Program, crowd: dict[str, int]) -> None:
    for state, id_ in crowd.items():
        assert [job["id"] for job in await said(shop, "list", "--state", state)] == [id_]
    assert [job["id"] for job in await said(shop, "list", "--state", "all")] == sorted(crowd.values())
    assert len(await said(shop, "list", "--identifier", "a")) == 2
    assert [job["id"] for job in await said(shop, "list", "--queue", "q2")] == [crowd["locked"]]
    assert [job["id"] for job in await said(shop, "list", "--limit", "1", "--offset", "1")] == [
        crowd["scheduled"]
    ]
    first, *others = sorted(crowd.values())
    after = await said(shop, "list", "--limit", "2", "--after", str(first))
    assert [job["id"] for job in after] == others[:2]
    assert [job["id"] for job in await said(shop, "list", "--locked-by", "worker-1")] == [crowd["locked"]]


async def test_lists_are_filtered_by_key_and_flags(shop: Program, database: Database) -> None:
    plain, keyed, flagged = await Client(database).add_raw_jobs(
        [("a", 1), ("a", 2, JobSpec(job_key="k", flags=["f"])), ("a", 3, JobSpec(flags=["f", "g"]))]
    )
    assert [job["id"] for job in await said(shop, "list", "--key", "k")] == [keyed.id]
    assert [job["id"] for job in await said(shop, "list", "--flag", "f")] == [keyed.id, flagged.id]
    assert [job["id"] for job in await said(shop, "list", "--flag", "f", "--flag", "g")] == [flagged.id]
    assert [job["id"] for job in await said(shop, "list")] == [plain.id, keyed.id, flagged.id]


async def test_the_queue_is_counted_by_state_task_queue_and_worker(
    shop: Program, database: Database, crowd: dict[str, int]
) -> None:
    await worker_registry.heartbeat(database, "worker-2", {"tasks": ["a"], "host": "box", "pid": 7})
    assert await said(shop, "stats") == {"total": 4, "ready": 1, "scheduled": 1, "locked": 1, "failed": 1}
    a, b = await said(shop, "tasks")
    assert (a["task_identifier"], a["total"], a["ready"], a["scheduled"], a["workers"]) == ("a", 2, 1, 1, 1)
    assert (b["task_identifier"], b["locked"], b["failed"], b["workers"]) == ("b", 1, 1, 0)
    q, q2 = await said(shop, "queues")
    assert q.keys() == {"id", "queue_name", "locked_at", "locked_by", "job_count", "ready_count"}
    assert (q["queue_name"], q["job_count"], q["ready_count"], q["locked_by"]) == ("q", 1, 1, None)
    assert (q2["queue_name"], q2["job_count"], q2["ready_count"], q2["locked_by"]) == ("q2", 1, 0, "worker-1")
    alive, holder = await said(shop, "workers")
    assert (alive["worker_id"], alive["locked_jobs"], alive["is_stale"]) == ("worker-2", 0, False)
    assert (holder["worker_id"], holder["locked_jobs"], holder["locked_queues"]) == ("worker-1", 1, 1)
    assert holder["last_heartbeat_at"] is None


async def test_the_list_of_workers_says_for_which_a_lock_stands(shop: Program, database: Database) -> None:
    for worker_id, presence in (("worker-2", {"key": 1}), ("worker-3", {"why_not": "lost"})):
        await worker_registry.heartbeat(database, worker_id, {"presence": presence})
    header, *rows = (line.split("\t") for line in (await text(shop, "workers")).splitlines())
    found = {row[0]: row[header.index("presence")] for row in rows}
    assert found == {"worker-2": "lock", "worker-3": "lease only"}


async def test_tables_are_tab_separated_through_a_pipe(shop: Program, crowd: dict[str, int]) -> None:
    assert (await text(shop, "stats")).splitlines() == [
        "state\tjobs", "total\t4", "ready\t1", "scheduled\t1", "locked\t1", "failed\t1",
    ]  # fmt: skip
    assert (await text(shop, "queues")).startswith("id\tqueue\tjobs\tready\tlocked_by\tlocked_at\n")
    assert (await text(shop, "workers")).startswith("worker_id\tlocked_jobs\tlocked_queues\theartbeat\t")
    assert (await text(shop, "tasks")).startswith("id\ttask\tjobs\tready\tscheduled\tlocked\tfailed\t")


# --- changes ------------------------------------------------------------------------------------


async def test_what_is_left_alone_is_named_with_the_reason(shop: Program, crowd: dict[str, int]) -> None:
    ids = [str(id_) for id_ in (crowd["ready"], crowd["locked"], 999_999)]
    ended = await shop.run("complete", *ids)
    assert ended.output == f"completed 1 job: {crowd['ready']}\n"
    assert f"job {crowd['locked']} is locked by worker-1" in ended.error
    assert "there is no job 999999" in ended.error
    assert ended.exit_code == 1


async def test_force_unlock_frees_jobs_and_queues_of_one_worker(
    shop: Program, database: Database, crowd: dict[str, int]
) -> None:
    assert "1 job and 1 queue are free" in await text(shop, "force-unlock", "worker-1")
    assert (await text(shop, "force-unlock", "nobody")).startswith("unlocked 1 worker: ")
    assert await text(shop, "complete", str(crowd["locked"])) == f"completed 1 job: {crowd['locked']}\n"
    await worker_registry.heartbeat(database, "worker-3")
    ended = await shop.run("force-unlock", "worker-3", "--json")
    assert json.loads(ended.output)["unlocked_workers"] == ["worker-3"]
    assert "worker-3 is alive" in ended.error


async def test_remove_says_what_became_of_the_job(shop: Program, database: Database) -> None:
    client = Client(database)
    waiting = await client.add_raw_job("a", None, JobSpec(job_key="waiting"))
    running = await client.add_raw_job("a", None, JobSpec(job_key="running"))
    await database.execute(LOCK, [running.id], "worker-1")
    assert await text(shop, "remove", "waiting") == f"removed job {waiting.id}\n"
    assert "no job has the key 'waiting'" in await error(shop, "remove", "waiting", exit_code=1)
    removed = await said(shop, "remove", "running")
    assert removed == {"removed_key": "running", "job_id": running.id, "detached": True}


async def test_cancel_fails_what_waits_and_asks_the_workers_of_what_runs(
    shop: Program, database: Database, crowd: dict[str, int]
) -> None:
    await database.execute(LOCK, [crowd["scheduled"]], "trio_graphile_1")
    ids = [str(crowd[state]) for state in ("ready", "scheduled")]
    cancelled = await said(shop, "cancel", *ids, "--reason", "no more")
    assert cancelled["requested_ids"] == [crowd["scheduled"]]
    [failed] = cancelled["jobs"]
    assert (failed["id"], failed["last_error"]) == (crowd["ready"], "no more")


async def test_cleanup_deletes_what_it_is_told_to_and_nothing_by_default(
    shop: Program, database: Database, crowd: dict[str, int]
) -> None:
    await database.execute("""
        insert into graphile_worker._private_tasks (identifier) values ('idle'), ('old'), ('kept')
    """)
    await worker_registry.heartbeat(database, "worker-2", {"tasks": ["idle"]})
    ended = await shop.run("cleanup")
    assert "delete-permanently-failed-jobs" in ended.output
    assert (ended.exit_code, ended.error) == (2, "trio-graphile: nothing was deleted: say what is to be")
    assert len(await said(shop, "list")) == 4

    deleted = await said(
        shop, "cleanup", "delete-permanently-failed-jobs", "gc-task-identifiers", "--keep-task", "kept"
    )
    assert deleted == {
        "cleanup_tasks": ["DeletePermanentlyFailedJobs", "GcTaskIdentifiers"],
        "deleted": [1, 1],
    }
    assert [task["task_identifier"] for task in await said(shop, "tasks")] == ["a", "b", "idle", "kept"]


async def test_a_sweep_gives_back_the_jobs_of_the_dead(
    shop: Program, database: Database, crowd: dict[str, int]
) -> None:
    assert await text(shop, "sweep-stale-workers") == "no dead workers\n"
    await worker_registry.heartbeat(database, "worker-1")
    await database.execute("""
        update graphile_worker._private_workers set last_heartbeat_at = now() - interval '10 minutes'
    """)
    assert await text(shop, "sweep-stale-workers", "--sweep-threshold", "2h") == "no dead workers\n"
    assert await text(shop, "sweep-stale-workers", "--dry-run") == "would recover 1 worker: worker-1\n"
    swept = await said(shop, "sweep-stale-workers", "--sweep-threshold", "5 min", "--recovery-delay", "0")
    assert swept == {"worker_ids": ["worker-1"], "recovered_count": 1}


async def test_a_payload_file_that_is_not_text_is_named(shop: Program) -> None:
    (shop.folder / "latin.json").write_bytes(b'"caf\xe9"')
    assert "latin.json is not UTF-8" in await error(
        shop, "add", "a", "--payload-file", "latin.json", exit_code=2
    )


# --- mistakes -----------------------------------------------------------------------------------

MISTAKES = {
    ("add", "a", "--job-key-mode", "replace"): "--key",
    ("add", "a", "--payload", "{"): "--payload is not JSON: ",
    ("add", "a", "--payload", "{}", "--payload-file", "x"): "--payload and --payload-file exclude each other",
    ("add", "a", "--payload-file", "missing.json"): "missing.json cannot be read: No such file or directory",
    ("add", "a", "--run-at", "tomorrow"): '"tomorrow" is no time: write now, or one such as 2030',
    ("add", "a", "--run-at", "2030-01-01"): '"2030-01-01" has no time zone',
    ("add", "a", "--priority", "40000"): "--priority: 40000 is not between -32768 and 32767",
    ("add", "x" * 129): "TASK: 129 characters are not between 1 and 128",
    ("reschedule", "1"): "give at least one of --now, --run-at",
    ("reschedule", "1", "--now", "--run-at", "now"): "--now and --run-at exclude each other",
    ("list", "--limit", "-1"): "--limit: -1 is not between 1 and 100000: ask for one page after the other",
    ("list", "--offset", "-1"): "--offset: -1 is not between 0 and 9223372036854775807",
    ("list", "--state", "stuck"): "--state",
    ("complete",): "requires",
    ("show", "one"): "JOB_ID",
    ("sweep-stale-workers", "--sweep-threshold", "1.5h"): '"1.5h" is no duration: write whole seconds',
    ("sweep-stale-workers", "--sweep-threshold", "2 days"): '"2 days" is no duration',
    ("cleanup", "everything"): "everything",
}  # fmt: skip


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
async def test_a_mistake_is_wrong_usage_in_one_line(program: Program, arguments: tuple[str, ...]) -> None:
    nowhere = program.with_environment(DATABASE_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    assert MISTAKES[arguments] in await error(nowhere, *arguments, exit_code=2)


async def test_a_job_that_is_not_there_is_a_failure(shop: Program) -> None:
    assert "there is no job 42" in await error(shop, "show", "42", exit_code=1)


@pytest.mark.parametrize(
    "command", [("list",), ("add", "a"), ("stats",), ("workers",), ("cleanup", "gc-job-queues")]
)
async def test_on_an_empty_database_they_say_how_to_install_the_schema(
    program: Program, empty_database_url: str, command: tuple[str, ...]
) -> None:
    said_ = await error(program, *command, "--database-url", empty_database_url, exit_code=1)
    assert "trio-graphile migrate" in said_


async def test_options_may_stand_before_the_command(program: Program, database_url: str) -> None:
    ended = await program.run("--json", "--database-url", database_url, "stats")
    assert json.loads(ended.output)["total"] == 0


@pytest.mark.parametrize("command", [("stats",), ("list", "--json"), ("tasks",), ("queues",)])
async def test_a_role_that_row_level_security_keeps_from_the_jobs_is_told(
    shop: Program, database: Database, database_url: str, command: tuple[str, ...]
) -> None:
    role = f"reader_{secrets.token_hex(4)}"
    await Client(database).add_raw_job("greet")
    await database.execute(f"""
        create role {role} login;
        grant usage on schema graphile_worker to {role};
        grant select on all tables in schema graphile_worker to {role};
    """)
    try:
        url = database_url.replace("postgres@", f"{role}@", 1)
        ended = await shop.with_environment(DATABASE_URL=url).run(*command)
        assert ended.error.startswith("trio-graphile: row level security may hide rows of _private_job")
        assert ended.exit_code == 0
        assert (await shop.run(*command)).errors == ""
    finally:
        await database.execute(f"drop owned by {role}; drop role {role}")  # noqa: ASYNC102  # bounded inside
