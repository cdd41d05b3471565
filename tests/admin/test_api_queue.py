"""The API beside jobs: the queue at a glance, its parts, its workers, its upkeep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.admin.api import ADA, Api, open_api
from trio_graphile._client import Client
from trio_graphile._cron.crontab import parse_crontab
from trio_graphile._database import worker_registry
from trio_graphile._database.database import Database, open_database
from trio_graphile._model.jobs import JobSpec
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.admin._live.looks import Looks
from trio_graphile.admin._options import AdminOptions, LoginOptions


@pytest.fixture
def client(database: Database) -> Client:
    tasks = TaskRegistry()

    @tasks.task("mail")
    async def mail() -> None: ...

    return Client(database, tasks)


@pytest.fixture
async def api(client: Client) -> AsyncIterator[Api]:
    async with open_api(client) as api:
        yield api


async def _lock(database: Database, job_id: int, worker_id: str) -> None:
    """Have a worker take a job, and its queue."""
    async with database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_jobs set locked_at = now(), locked_by = $2::text "
            "where id = $1::bigint",
            job_id,
            worker_id,
        )


async def test_the_session_is_told_with_the_ports_keys(client: Client) -> None:
    modes = {
        "basic": ("Basic", "admin", None, True),
        "bearer": ("Bearer", None, None, True),
        "header": ("Header", None, "x-graphile-worker-admin-token", True),
        "none": ("None", None, None, False),
    }
    for mode, expected in modes.items():
        options = AdminOptions(login=LoginOptions(mode=mode))  # type: ignore[arg-type]  # one of them
        async with open_api(client, options=options) as api:
            session = await api.get("/api/session")
        assert session.keys() >= {"schema", "read_only", "csrf_header", "auth", "csrf_token", "user", "may"}
        assert tuple(session["auth"].values()) == expected
        assert [*session["auth"]] == ["mode", "username", "header_name", "generated_secret"]
        assert session["csrf_header"] == "x-graphile-worker-admin-csrf"
        assert session["user"] == ADA.user
    options = AdminOptions(login=LoginOptions(secret="hunter2"))
    async with open_api(client, options=options) as api:
        text = (await api.http.get("/api/session")).text
    assert "hunter2" not in text
    assert '"generated_secret": false' in text


async def test_the_overview_has_the_ports_keys_and_says_what_is_exact(api: Api, client: Client) -> None:
    taken = await client.add_raw_job("print", {}, JobSpec(queue_name="printer"))
    await client.add_raw_job("print", {}, JobSpec(queue_name="printer"))
    await _lock(client.database, taken.id, "w1")
    await worker_registry.heartbeat(client.database, "w2", {"tasks": ["print"], "concurrency": 4})
    overview = await api.get("/api/overview")
    assert overview["stats"] == {"total": 2, "ready": 1, "scheduled": 0, "locked": 1, "failed": 0}
    [queue] = overview["queues"]
    assert queue.keys() >= {"id", "queue_name", "locked_at", "locked_by", "job_count", "ready_count"}
    assert overview["workers"] == [{"worker_id": "w1", "locked_jobs": 1, "locked_queues": 1}]
    [worker] = overview["active_workers"]
    assert worker.keys() >= {"worker_id", "last_heartbeat_at", "started_at", "metadata", "is_stale"}
    assert worker["metadata"]["concurrency"] == 4
    assert (overview["estimated"], overview["queues_next"]) == ([], None)
    assert overview["oldest_ready_at"] <= overview["counted_at"]


async def test_lists_by_name_come_in_pages(api: Api, client: Client) -> None:
    for name in ("a", "b", "c"):
        await client.add_raw_job(f"task {name}", {}, JobSpec(queue_name=f"queue {name}"))
    for path, key, name in (
        ("/api/queues", "queues", "queue_name"),
        ("/api/tasks", "tasks", "task_identifier"),
    ):
        first = await api.get(path, limit=2)
        rest = await api.get(path, limit=2, after=first["next"])
        found = [one[name][-1] for page in (first, rest) for one in page[key]]
        assert (found, rest["next"]) == (["a", "b", "c"], None)
    [queue] = (await api.get("/api/queues", search="UE B"))["queues"]
    assert queue["queue_name"] == "queue b"


async def test_a_task_is_told_with_who_has_it(api: Api, client: Client) -> None:
    await client.add_raw_job("mail", {})
    await client.add_raw_job("print", {})
    await worker_registry.heartbeat(client.database, "w", {"tasks": ["print", 5, None]})
    mail, print_ = (await api.get("/api/tasks"))["tasks"]
    assert (mail["task_identifier"], mail["workers"], mail["is_known_here"], mail["ready"]) == (
        "mail",
        0,
        True,
        1,
    )
    assert (print_["workers"], print_["is_known_here"]) == (1, False)


@pytest.mark.parametrize("metadata", ["[1e400]", '"text"', '{"tasks": {"a": 1}}', "5"])
async def test_what_other_workers_say_of_themselves_may_be_anything(
    api: Api, client: Client, metadata: str
) -> None:
    await worker_registry.heartbeat(client.database, "w", {})
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_workers set metadata = $1::text::jsonb", metadata
        )
    [worker] = (await api.get("/api/workers"))["active_workers"]
    assert worker["worker_id"] == "w"
    await api.get("/api/tasks")
    await api.get("/api/findings")


async def test_whoever_has_locks_is_found_among_the_oldest_and_newest_and_where_workers_tell(
    api: Api, client: Client
) -> None:
    await client.add_raw_jobs([("print", {})] * 41_000)
    oldest, middle, untold, newest = (1, 20_500, 20_600, 41_000)
    for number, id_ in enumerate((oldest, middle, untold, newest)):
        await _lock(client.database, id_, f"w{number}")
    await worker_registry.heartbeat(
        client.database, "w1", {"statistics": {"running": [{"id": middle}, {"id": "x"}, 5]}}
    )
    answer = await api.get("/api/workers")
    assert [one["worker_id"] for one in answer["workers"]] == ["w0", "w1", "w3"]
    assert not answer["is_complete"]


async def test_failures_are_grouped_by_their_errors(api: Api, client: Client) -> None:
    jobs = [await client.add_raw_job("print", {}) for _ in range(3)]
    for job, reason in zip(jobs, ("page 1 is torn\nmore", "page 22 is torn", "no ink"), strict=True):
        await client.permanently_fail_jobs([job.id], reason)
    groups = (await api.get("/api/failures", identifier="print"))["groups"]
    assert [(group["error"], group["count"]) for group in groups] == [("page # is torn", 2), ("no ink", 1)]
    keys = {"error", "task_identifier", "count", "is_estimate", "latest_at", "example_id"}
    assert groups[0].keys() == keys
    assert (await api.get("/api/failures", identifier="other"))["groups"] == []


async def test_crontabs_are_told_as_the_database_and_the_program_know_them(client: Client) -> None:
    given_options: dict[str, Any] = {"crontab": parse_crontab("0 4 * * * backup")}
    async with client.database.connection() as connection:
        await connection.execute(
            "insert into graphile_worker._private_known_crontabs values ('old', now(), null)"
        )
    async with open_api(client, options=AdminOptions(**given_options)) as api:
        given, known = (await api.get("/api/crontabs"))["crontabs"]
    assert (given["identifier"], given["schedule"], len(given["next"])) == ("backup", "0 4 * * *", 5)
    assert (known["identifier"], known["task_identifier"], known["last_at"]) == ("old", None, None)


async def test_findings_are_those_of_the_doctor(api: Api, client: Client) -> None:
    job = await client.add_raw_job("print", {})
    await _lock(client.database, job.id, "dead")
    await worker_registry.heartbeat(client.database, "dead", {})
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_workers set last_heartbeat_at = now() - interval '1 day'"
        )
    findings = {finding["check"]: finding for finding in (await api.get("/api/findings"))["findings"]}
    assert {"version", "role", "clock", "schema", "bloat", "workers", "locks"} <= findings.keys()
    assert findings["schema"]["level"] == "ok"
    assert findings["locks"]["level"] == "problem"
    assert "dead" in findings["locks"]["text"]


async def test_history_is_null_where_nobody_knows(api: Api) -> None:
    for span, step, count in (("hour", 60, 60), ("day", 900, 96)):
        answer = await api.get("/api/history", span=span)
        assert (answer["step"], len(answer["points"])) == (step, count)
        assert answer["points"][0].keys() == {
            "at", "ready", "scheduled", "locked", "failed", "oldest_ready", "added", "gone", "completed",
            "failures", "wait", "run",
        }  # fmt: skip
        assert answer["points"][0]["ready"] is None
    assert len((await api.get("/api/history"))["points"]) == 60


async def test_history_has_what_was_seen_and_not_written(client: Client) -> None:
    await client.add_raw_job("print", {})
    looks = Looks(database=client.database, writes=False)
    async with open_api(client, looks=looks) as api, trio.open_nursery() as nursery:
        await nursery.start(looks.run)
        with trio.fail_after(10):
            while (last := (await api.get("/api/history"))["points"][-1])["ready"] is None:
                pass  # until it has looked
        assert last["ready"] == 1
        nursery.cancel_scope.cancel()


async def test_migrating_is_foreseen_and_done(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database, open_api(Client(database)) as api:
        foreseen = await api.post("/api/maintenance", action="migrate", dry_run=True)
        assert len(foreseen["migrations"]) > 5
        assert "would be applied" in foreseen["message"]
        assert (await api.http.get("/api/jobs")).status_code == 503, "nothing was done"
        done = await api.post("/api/maintenance", action="migrate")
        assert done["message"] == "the schema was brought up to date"
        again = await api.post("/api/maintenance", action="migrate", dry_run=True)
        assert (again["message"], again["migrations"]) == ("the schema is up to date already", [])
        assert [entry[1] for entry in api.ledger.entries] == ["migrate"] * 3


@pytest.mark.parametrize("name", ["gc-task-identifiers", "gc_task_identifiers", "GcTaskIdentifiers"])
async def test_cleaning_up_deletes_what_was_named_and_says_how_many(
    api: Api, client: Client, name: str
) -> None:
    jobs = [await client.add_raw_job(task, {}) for task in ("mail", "print", "scan", "fax")]
    await client.complete_jobs([job.id for job in jobs])
    answer = await api.post("/api/maintenance", action="cleanup", cleanup_tasks=[name], keep_tasks=["scan"])
    assert answer["deleted"] == [{"task": "gc-task-identifiers", "count": 2}]
    left = (await api.get("/api/tasks"))["tasks"]
    assert [task["task_identifier"] for task in left] == ["mail", "scan"], "those of the program stay"


async def test_unlocking_and_sweeping_give_jobs_back(api: Api, client: Client) -> None:
    jobs = [await client.add_raw_job("print", {}) for _ in range(2)]
    await _lock(client.database, jobs[0].id, "gone")
    await _lock(client.database, jobs[1].id, "silent")
    await api.post("/api/maintenance", action="force-unlock", worker_ids=["gone"])
    [left] = (await api.get("/api/workers"))["workers"]
    assert left["worker_id"] == "silent"
    await worker_registry.heartbeat(client.database, "silent", {})
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_workers set last_heartbeat_at = now() - interval '1 hour'"
        )
    foreseen = await api.post("/api/maintenance", action="sweep-stale-workers", dry_run=True)
    assert (foreseen["worker_ids"], foreseen["recovered_jobs"]) == (["silent"], 0)
    body = {"action": "sweep-stale-workers", "sweep_threshold_secs": 60, "recovery_delay_secs": 0}
    swept = await api.post("/api/maintenance", **body)
    assert (swept["worker_ids"], swept["recovered_jobs"]) == (["silent"], 1)
    assert swept["message"] == "recovered 1 job from 1 worker"
    assert (await api.get("/api/workers"))["workers"] == []


async def test_events_end_with_the_server_and_are_refused_where_nobody_looks(client: Client) -> None:
    stopping = trio.Event()
    stopping.set()
    async with open_api(client, looks=Looks(database=client.database), stopping=stopping) as api:
        with trio.fail_after(5):
            response = await api.http.get("/api/events")
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.text.endswith("event: bye\ndata: {}\n\n")
        assert (await api.http.head("/api/events")).status_code == 200
    async with open_api(client) as api:
        refused = await api.http.get("/api/events")
        assert (refused.status_code, refused.json()) == (503, {"error": "nothing is watched here"})
