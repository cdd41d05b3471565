"""The API's part about jobs, on a real database: what is listed, added, changed and removed."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from tests.admin.api import JOB, LISTED, Api, open_api
from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile._model.jobs import JobSpec
from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.admin._options import Access, Action, AdminOptions
from trio_graphile.admin._safety.redaction import SECRET_NAMES
from trio_graphile.hooks import Hooks, Skip


@attrs.frozen(kw_only=True)
class Mail:
    to: str
    copies: int = 1


@pytest.fixture
def client(database: Database) -> Client:
    tasks = TaskRegistry()

    @tasks.task("mail", priority=3)
    async def mail(payload: Mail) -> None: ...

    @tasks.task("tidy")
    async def tidy() -> None: ...

    return Client(database, tasks)


@pytest.fixture
async def api(client: Client) -> AsyncIterator[Api]:
    async with open_api(client) as api:
        yield api


async def test_a_job_is_added_with_all_that_the_port_knows(api: Api, client: Client) -> None:
    answer = await api.post(
        "/api/jobs",
        identifier="print",
        payload={"pages": [1, 2.5, 12345678901234567890]},
        queue="printer",
        run_at="2099-01-31T10:00:00+02:00",
        max_attempts=7,
        key="k",
        job_key_mode="preserve-run-at",
        priority=-5,
        flags=["colour"],
    )
    [job] = answer["jobs"]
    assert job.keys() >= JOB
    assert answer["message"] == f"added job {job['id']} of task print"
    assert job["payload"] == {"pages": [1, 2.5, 12345678901234567890]}
    assert job["run_at"] == "2099-01-31T08:00:00Z"
    assert job["flags"] == {"colour": True}
    assert (job["queue_name"], job["key"], job["priority"], job["max_attempts"]) == ("printer", "k", -5, 7)
    assert type(job["task_id"]) is type(job["job_queue_id"]) is int
    assert api.ledger.entries == [("ada", "add", [job["id"]], {})]


async def test_a_payload_is_empty_if_none_is_given(api: Api) -> None:
    for body in ({}, {"payload": None}):
        [job] = (await api.post("/api/jobs", identifier="print", **body))["jobs"]
        assert job["payload"] == {}


async def test_a_payload_is_checked_against_the_type_of_its_task(api: Api) -> None:
    refused = await api.http.post("/api/jobs", json={"identifier": "mail", "payload": {"to": 5}})
    assert refused.status_code == 400
    assert "$.to" in refused.json()["error"]
    refused = await api.http.post("/api/jobs", json={"identifier": "tidy", "payload": {"to": "ada"}})
    assert (refused.status_code, "takes no payload" in refused.json()["error"]) == (400, True)
    await api.post("/api/jobs", identifier="tidy", payload={})
    [job] = (await api.post("/api/jobs", identifier="mail", payload={"to": "ada"}))["jobs"]
    assert job["payload"] == {"to": "ada", "copies": 1}
    assert job["priority"] == 3, "the task's own default"


async def test_plugins_intercept_what_is_added(database: Database) -> None:
    class Gate:
        def register(self, hooks: Hooks) -> None:
            hooks.before_job_schedule(lambda _: Skip("not today"))

    async with open_api(Client(database, plugins=[Gate()])) as api:
        answer = await api.http.post("/api/jobs", json={"identifier": "print"})
        assert answer.status_code == 409
        assert "not today" in answer.json()["error"]
        assert api.ledger.entries == [("ada", "add", [], {"failed": "JobSkipped"})]


async def test_jobs_are_listed_with_the_keys_that_scripts_know(api: Api, client: Client) -> None:
    for number in range(3):
        await client.add_raw_job("print", {"number": number}, JobSpec(queue_name="printer"))
    answer = await api.get("/api/jobs", state="ready", queue="printer", search="NUMBER", limit=2)
    assert [job["payload"]["number"] for job in answer["jobs"]] == [0, 1]
    assert answer["jobs"][0].keys() >= LISTED | {"state", "payload_size"}
    rest = await api.get("/api/jobs", state="ready", queue="printer", after=answer["next"])
    assert [job["payload"]["number"] for job in rest["jobs"]] == [2]
    assert rest["next"] is None


async def test_numbers_of_payloads_are_shown_as_they_are_stored(api: Api, client: Client) -> None:
    text = '{"a": 1.10, "b": 1e400, "c": 12345678901234567890123}'
    job = await client.add_raw_job("print", {})
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_jobs set payload = $1::text::json where id = $2::bigint",
            text,
            job.id,
        )
    for path in ("/api/jobs", f"/api/jobs/{job.id}", f"/api/jobs/{job.id}/payload", "/api/jobs/export"):
        assert text in (await api.http.get(path)).text
    [done] = [await api.http.post("/api/jobs/action", json={"action": "complete", "ids": [job.id]})]
    assert text in done.text


async def test_one_job_is_shown_or_missed_by_name(api: Api, client: Client) -> None:
    job = await client.add_raw_job("print", {"a": 1})
    assert (await api.get(f"/api/jobs/{job.id}")).keys() >= LISTED | {"explanation", "timeline"}
    for path in ("/api/jobs/999999", "/api/jobs/999999/payload"):
        missing = await api.http.get(path)
        assert missing.status_code == 404
        assert "999999" in missing.json()["error"]


async def test_each_action_does_what_it_says(api: Api, client: Client) -> None:
    jobs = [await client.add_raw_job("print", {}) for _ in range(5)]
    ids = [job.id for job in jobs]

    async def act(action: str, *ids: int, **more: Any) -> Any:
        answer = await api.post("/api/jobs/action", action=action, ids=ids, **more)
        assert {job["id"] for job in answer["jobs"]} == {*ids}
        assert all(job.keys() >= JOB and job["task_id"] for job in answer["jobs"])
        return answer

    assert (await act("complete", ids[0]))["message"] == "completed 1 job"
    await act("fail", ids[1], reason="broken")
    await act("fail", ids[2], reason="  ")
    await act("reschedule", ids[3], run_at="2099-01-01T00:00:00Z", priority=0, attempts=2, max_attempts=9)
    await act("cancel", ids[4], reason="no need")
    left = {listed.job.id: listed.job for listed in (await client.jobs()).jobs}
    assert ids[0] not in left
    assert left[ids[1]].last_error == "broken"
    assert left[ids[2]].last_error == "Manually marked as failed"
    moved = left[ids[3]]
    assert (moved.run_at, moved.attempts, moved.max_attempts) == (datetime(2099, 1, 1, tzinfo=UTC), 2, 9)
    assert left[ids[4]].last_error == "no need"
    await act("run-now", ids[3], priority=4)
    again = (await client.job(ids[3])).job  # type: ignore[union-attr]  # it is there
    assert again.run_at <= datetime.now(UTC) + timedelta(minutes=1)
    assert again.priority == 4
    assert [entry[1:3] for entry in api.ledger.entries[:2]] == [("complete", [ids[0]]), ("fail", [ids[1]])]


async def test_what_is_left_alone_is_named_with_its_reason(api: Api, client: Client) -> None:
    job = await client.add_raw_job("print", {})
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'node' "
            "where id = $1::bigint",
            job.id,
        )
    answer = await api.post("/api/jobs/action", action="complete", ids=[job.id, 999_999, job.id])
    assert answer["jobs"] == []
    assert [(one["id"], one["reason"].partition(":")[0]) for one in answer["unchanged"]] == [
        (job.id, "it is locked by node"),
        (999_999, "there is no such job"),
    ]


async def test_the_audit_log_says_how_many_workers_were_asked_to_interrupt(api: Api, client: Client) -> None:
    job = await client.add_raw_job("print", {})
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'trio_graphile_ours' "
            "where id = $1::bigint",
            job.id,
        )
    answer = await api.post("/api/jobs/action", action="cancel", ids=[job.id])
    assert answer["requested_ids"] == [job.id]
    assert api.ledger.entries[-1][3]["requested"] == 1


async def test_all_that_match_are_changed_in_steps_and_nothing_that_came_later(
    api: Api, client: Client
) -> None:
    jobs = [await client.add_raw_job("print", {}) for _ in range(5)]
    other = await client.add_raw_job("other", {})
    later = await client.add_raw_job("print", {})
    which = {"identifier": ["print"], "until_id": jobs[-1].id}
    steps: list[list[int]] = []
    after = None
    for _ in range(5):
        answer = await api.post("/api/jobs/action", action="fail", filter=which, limit=2, after=after)
        steps.append([job["id"] for job in answer["jobs"]])
        after = answer["next"]
        if after is None:
            break
    assert after is None
    assert [id_ for step in steps for id_ in step] == [job.id for job in jobs]
    assert max(map(len, steps)) == 2
    for job in (other, later):
        assert (await client.job(job.id)).job.last_error is None  # type: ignore[union-attr]  # it is there


async def test_removing_says_what_was_there(api: Api, client: Client) -> None:
    waiting = await client.add_raw_job("print", {}, JobSpec(job_key="waits"))
    running = await client.add_raw_job("print", {}, JobSpec(job_key="runs"))
    async with client.database.connection() as connection:
        await connection.execute(
            "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'w' "
            "where id = $1::bigint",
            running.id,
        )
    answers = [await api.post("/api/jobs/remove-by-key", key=key) for key in ("waits", "runs", "none")]
    assert [answer["removed"] for answer in answers] == ["job", "key", "nothing"]
    assert [answer["job"] and answer["job"]["id"] for answer in answers] == [waiting.id, running.id, None]
    assert [entry[2] for entry in api.ledger.entries] == [[waiting.id], [running.id], []]


async def test_a_file_has_all_that_match_and_no_formulas(api: Api, client: Client) -> None:
    for number in range(3):
        await client.add_raw_job("=1+1", {"n": number}, JobSpec(job_key=f'"quoted",{number}'))
    response = await api.http.get("/api/jobs/export", params={"format": "csv"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == 'attachment; filename="jobs.csv"'
    rows = [*csv.DictReader(io.StringIO(response.text, newline=""))]
    assert [row["task_identifier"] for row in rows] == ["'=1+1"] * 3
    assert rows[2]["key"] == '"quoted",2'
    as_json = await api.get("/api/jobs/export", format="json")
    assert [job["payload"]["n"] for job in as_json["jobs"]] == [0, 1, 2]
    assert as_json["next"] is None


async def test_a_set_of_actions_allows_these_alone(client: Client) -> None:
    job = await client.add_raw_job("print", {})
    async with open_api(client, Access("bob", [Action.RUN_NOW])) as api:
        body = {"action": "complete", "ids": [job.id]}
        refused = await api.http.post("/api/jobs/action", json=body)
        assert refused.status_code == 403
        assert "bob may not complete" in refused.json()["error"]
        assert await client.job(job.id) is not None
        await api.post("/api/jobs/action", action="run-now", ids=[job.id])


async def test_who_only_reads_is_refused_before_the_body_is_looked_at(client: Client) -> None:
    async with open_api(client, Access("eve")) as api:
        for path in ("/api/jobs", "/api/jobs/action", "/api/jobs/remove-by-key", "/api/maintenance"):
            assert (await api.http.post(path, content="{")).status_code == 403
        assert (await api.get("/api/session"))["may"] == []
        assert (await api.get("/api/session"))["read_only"] is True


async def test_secrets_leave_in_no_answer(client: Client) -> None:
    secret = {"user": "ada", "password": "hunter2", "deep": [{"api_key": "hunter2"}], "own": "hunter2"}
    job = await client.add_raw_job("print", secret)
    options = AdminOptions(redacted_names=(*SECRET_NAMES, "own"))
    async with open_api(client, options=options) as api:
        gets = ("/api/jobs", f"/api/jobs/{job.id}", f"/api/jobs/{job.id}/payload", "/api/jobs/export")
        answers = [await api.http.get(path) for path in gets]
        answers.append(await api.http.post("/api/jobs", json={"identifier": "print", "payload": secret}))
        answers.append(await api.http.post("/api/jobs/action", json={"action": "fail", "ids": [job.id]}))
    for answer in answers:
        assert answer.status_code == 200
        assert "ada" in answer.text
        assert "hunter2" not in answer.text


async def test_a_function_says_what_may_be_seen(client: Client) -> None:
    await client.add_raw_job("print", {"iban": "DE1", "n": 1.10})
    options = AdminOptions(redact=lambda task, payload: payload | {"iban": f"of {task}"})
    async with open_api(client, options=options) as api:
        [job] = (await api.get("/api/jobs"))["jobs"]
    assert job["payload"] == {"iban": "of print", "n": 1.1}
