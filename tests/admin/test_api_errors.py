"""Whatever is asked of the API is answered in JSON, and details of faults stay inside."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.admin.api import Api, open_api
from trio_graphile._client import Client
from trio_graphile._database.database import Database, open_database
from trio_graphile._model.options import DatabaseOptions

POST = {"content-type": "application/json"}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Api]:
    async with open_api(Client(database)) as api:
        yield api


@pytest.mark.parametrize(
    ("request_line", "body", "status", "words"),
    [
        ("GET /api/jobs?limt=5", None, 400, "did you mean limit?"),
        ("GET /api/jobs?limit=ten", None, 400, "limit: a whole number"),
        ("GET /api/jobs?offset=-1", None, 400, "offset: a number from 0"),
        ("GET /api/jobs?after=%F0%9F%92%A9", None, 400, "after"),
        ("GET /api/jobs?after=1&offset=1", None, 400, "exclude each other"),
        ("GET /api/jobs?search=%FF", None, 400, "not UTF-8"),
        ("GET /api/jobs?search=%00", None, 400, "NUL"),
        ("GET /api/jobs/abc", None, 400, "'abc' is no job's id"),
        ("GET /api/jobs/-1", None, 400, "'-1' is no job's id"),
        ("GET /api/jobs/%D9%A3", None, 400, "is no job's id"),
        ("GET /api/jobs/9223372036854775808", None, 400, "a number from 1 to"),
        (f"GET /api/jobs/{'9' * 5000}", None, 400, "is no job's id"),
        ("GET /api/jobs/1", None, 404, "there is no job 1"),
        ("GET /api/jobs/1/payload?x=1", None, 400, "'x'"),
        ("GET /api/session?x=1", None, 400, "'x'"),
        ("POST /api/jobs?x=1", b'{"identifier": "a"}', 400, "'x'"),
        ("POST /api/jobs", b"", 400, "malformed JSON"),
        ("POST /api/jobs", b"{", 400, "malformed JSON"),
        ("POST /api/jobs", b'{"identifier": "a", "identifier": "b"}', 400, "stands twice"),
        ("POST /api/jobs", b'{"identifier": "a", "payload": 1e400}', 400, "out of range"),
        (
            "POST /api/jobs",
            b'{"identifier": "a", "priority": 1' + b"0" * 400 + b"}",
            400,
            "priority: a number",
        ),
        (
            "POST /api/jobs",
            b'{"identifier": "a", "payload": ' + b"[" * 200 + b"]" * 200 + b"}",
            400,
            "deeper",
        ),
        ("POST /api/jobs", b'{"identifier": "a", "payload": "\\ud800"}', 400, "surrogate"),
        ("POST /api/jobs", b'{"identifier": "a\\u0000"}', 400, "NUL"),
        (
            "POST /api/jobs",
            b'{"identifier": "a", "key": "", "job_key_mode": "replace"}',
            400,
            "key: it is empty",
        ),
        ("POST /api/jobs", b'{"identifier": "a", "job_key_mode": "replace"}', 400, "give key, too"),
        ("POST /api/jobs", b'"' + b"x" * 1_100_000 + b'"', 413, "over 1048576 bytes"),
        ("POST /api/jobs/action", b'{"action": "complete", "ids": []}', 400, "give ids or a filter"),
        ("POST /api/jobs/action", b'{"action": "reschedule", "ids": [1]}', 400, "nothing to change"),
        ("POST /api/jobs/remove-by-key", b'{"key": " "}', 400, "key: it is blank"),
        ("POST /api/maintenance", b'{"action": "cleanup"}', 400, "name cleanup_tasks"),
        ("GET /api/jobs/action", None, 405, "use POST"),
        ("DELETE /api/jobs", None, 405, "use GET, HEAD, POST"),
        ("PUT /api/jobs/1", None, 405, "use GET, HEAD"),
    ],
)
async def test_what_cannot_be_served_is_refused_in_json(
    api: Api, request_line: str, body: bytes | None, status: int, words: str
) -> None:
    response = await api.http.request(*request_line.split(" "), content=body, headers=POST)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert response.json().keys() == {"error"}
    assert words in response.json()["error"]
    assert len(response.content) < 1000, "what was sent is not sent back"
    assert status != 405 or response.headers["allow"] in words


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"]
)
async def test_a_body_of_another_type_is_not_looked_at(api: Api, media: str) -> None:
    response = await api.http.post(
        "/api/jobs", content='{"identifier": "a"}', headers={"content-type": media}
    )
    assert response.status_code == 415
    assert "content-type: application/json" in response.json()["error"]
    media = "Application/JSON; charset=utf-8"
    response = await api.http.post(
        "/api/jobs", content='{"identifier": "a"}', headers={"content-type": media}
    )
    assert response.status_code == 200


async def test_a_fault_of_ours_is_told_to_the_log_alone(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with database.connection() as connection:
        await connection.execute("alter table graphile_worker._private_jobs drop constraint jobs_key_key1")
    async with open_api(Client(database)) as api:
        response = await api.http.post("/api/jobs", json={"identifier": "a", "key": "secret"})
    assert response.status_code == 500
    assert response.json() == {"error": "internal server error"}
    assert "ON CONFLICT" in caplog.text


async def test_a_query_that_takes_too_long_says_so(database: Database, database_url: str) -> None:
    impatient = DatabaseOptions(statement_timeout=0.1)
    async with (
        open_database(database_url, impatient) as hurried,
        open_api(Client(hurried)) as api,
        database.transaction() as connection,
    ):
        await connection.execute("lock table graphile_worker._private_jobs in access exclusive mode")
        with trio.fail_after(10):
            response = await api.http.get("/api/jobs")
    assert response.status_code == 503
    assert "took too long" in response.json()["error"]


async def test_what_is_lost_is_answered_too(database_url: str) -> None:
    async with open_database(database_url) as database, open_api(Client(database)) as api:
        await database.aclose()
        response = await api.http.get("/api/jobs")
    assert response.status_code == 503


async def test_what_is_not_installed_is_named(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database, open_api(Client(database)) as api:
        for path in ("/api/jobs", "/api/overview"):
            response = await api.http.get(path)
            assert (response.status_code, response.json().keys()) == (503, {"error"})
