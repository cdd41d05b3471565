"""The way in: each check, alone."""

from __future__ import annotations

import logging
from urllib.parse import quote

import httpx2
import pytest
import trio.testing
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from tests.admin.guarded import (
    BASIC,
    BEARER,
    CREDENTIALS,
    JSON,
    SECRET,
    browser,
    guarded,
    options_of,
    pass_time,
    set_cookies,
    writing,
)
from trio_graphile.admin import Access, Action
from trio_graphile.admin._options import Mode
from trio_graphile.admin._safety.checks import CSRF_HEADER

MODES: tuple[Mode, ...] = ("basic", "bearer", "header", "none")
WITH_SECRET: tuple[Mode, ...] = ("basic", "bearer", "header")


def wrong(mode: Mode) -> dict[str, str]:
    name = "x-graphile-worker-admin-token" if mode == "header" else "authorization"
    return {name: {"basic": "Basic YWRtaW46eA==", "bearer": "Bearer x", "header": "x"}[mode]}


# --- Host -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", ["/", "/api/jobs", "/login", "/static/x.css", "/healthz"])
async def test_a_name_that_points_here_is_no_name_of_ours(mode: Mode, path: str) -> None:
    async with browser(guarded(mode)) as visitor:
        headers = {**CREDENTIALS[mode], "host": "evil.example:5678"}
        answer = await visitor.get(path, headers=headers)
        assert answer.status_code == 421
        assert "evil.example" in answer.text
        assert "--allowed-host" in answer.text


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "192.0.2.1:80",
        "[::1]:5678",
        "localhost:1",
        "Jobs.Example",
        "jobs.example.:1",
        "pub.example",
    ],
)
async def test_addresses_localhost_and_allowed_names_are_ours(host: str) -> None:
    app = guarded(allowed_hosts=["jobs.example"], public_url="https://pub.example/ops")
    async with browser(app) as visitor:
        assert (await visitor.get("/api/jobs", headers={**BASIC, "host": host})).status_code == 200


@pytest.mark.parametrize("host", ["", "a b", "127.0.0.1:x", "evil.example#127.0.0.1", "999.0.0.1", "127.1"])
async def test_what_is_no_host_is_not_ours(host: str) -> None:
    async with browser(guarded()) as visitor:
        assert (await visitor.get("/api/jobs", headers={**BASIC, "host": host})).status_code == 421


# --- credentials ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", WITH_SECRET)
@pytest.mark.parametrize("path", ["/", "/jobs", "/jobs/1", "/nothing", "/logout"])
async def test_pages_send_to_the_login_whoever_shows_nothing(mode: Mode, path: str) -> None:
    async with browser(guarded(mode)) as visitor:
        answer = await visitor.get(path, params={"state": "failed"})
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/login?next={path.replace('/', '%2F')}%3Fstate%3Dfailed"
        assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("mode", WITH_SECRET)
@pytest.mark.parametrize("path", ["/api/jobs", "/api", "/api/nothing"])
async def test_the_api_wants_credentials(mode: Mode, path: str) -> None:
    async with browser(guarded(mode)) as visitor:
        for headers in ({}, wrong(mode)):
            answer = await visitor.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.json() == {"error": "unauthorized"}
            challenge = answer.headers.get("www-authenticate")
            assert challenge == ('Basic realm="trio_graphile", charset="UTF-8"' if mode == "basic" else None)
        answer = await visitor.get(path, headers=CREDENTIALS[mode])
        assert (answer.status_code, answer.json()["user"]) == (200, "admin")


@pytest.mark.parametrize("mode", WITH_SECRET)
async def test_pages_take_credentials_as_well(mode: Mode) -> None:
    async with browser(guarded(mode)) as visitor:
        assert (await visitor.get("/jobs", headers=CREDENTIALS[mode])).status_code == 200
        assert (await visitor.get("/jobs", headers=wrong(mode))).status_code == 401


async def test_without_a_login_everybody_on_this_machine_may_do_everything() -> None:
    async with browser(guarded("none")) as visitor:
        answer = await visitor.get("/api/jobs")
        assert answer.json()["may"] == sorted(Action)
    async with browser(guarded("none"), base_url="http://192.0.2.1:8080") as visitor:
        answer = await visitor.get("/api/jobs")
        assert answer.status_code == 403
        assert "--auth" in answer.text


async def test_without_a_login_nobody_comes_in_where_it_is_not_known_how() -> None:
    async def unsaid(scope: Scope, receive: Receive, send: Send) -> None:
        await guarded("none")({**scope, "server": None}, receive, send)

    async with browser(unsaid) as visitor:
        assert (await visitor.get("/api/jobs")).status_code == 403


async def test_what_is_public_needs_no_credentials_but_only_to_be_read() -> None:
    async with browser(guarded()) as visitor:
        for path in ("/static/admin.css", "/healthz", "/favicon.ico"):
            answer = await visitor.get(path)
            assert (answer.status_code, answer.json()["user"]) == (200, None)
            assert (await visitor.post(path)).status_code == 401


async def test_a_function_of_the_program_replaces_the_login() -> None:
    async def authorize(request: Request) -> Access | None:
        name = request.headers.get("x-user")
        return None if name is None else Access(name, [Action.ADD])

    async with browser(guarded(authorize=authorize)) as visitor:
        assert (await visitor.get("/api/jobs", headers=BASIC)).status_code == 401
        assert (await visitor.get("/", headers=BASIC)).status_code == 401
        seen = (await visitor.get("/api/jobs", headers={"x-user": "ada"})).json()
        assert (seen["user"], seen["may"]) == ("ada", ["add"])
        assert (await visitor.get("/login", headers={"x-user": "ada"})).status_code == 303
        refused = await visitor.post("/api/jobs", headers={"x-user": "ada", **JSON})
        assert (refused.status_code, CSRF_HEADER in refused.text) == (403, True)
        headers = await writing(visitor, {"x-user": "ada"})
        assert (await visitor.post("/api/jobs", headers=headers)).status_code == 200


# --- guesses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", WITH_SECRET)
async def test_the_sixth_try_within_a_minute_is_refused_even_if_right(
    mode: Mode, autojump_clock: trio.testing.MockClock
) -> None:
    app = guarded(mode)
    async with browser(app) as visitor:
        for _ in range(5):
            assert (await visitor.get("/api/jobs", headers=wrong(mode))).status_code == 401
        answer = await visitor.get("/api/jobs", headers=CREDENTIALS[mode])
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "60"
        assert "error" in answer.json()
        async with browser(app, client="192.0.2.7") as other:
            assert (await other.get("/api/jobs", headers=CREDENTIALS[mode])).status_code == 200
        await pass_time(60)
        assert (await visitor.get("/api/jobs", headers=CREDENTIALS[mode])).status_code == 200


async def test_what_a_client_says_of_its_address_does_not_help_it() -> None:
    async with browser(guarded()) as visitor:
        for number in range(5):
            headers = {**wrong("basic"), "x-forwarded-for": f"192.0.2.{number}"}
            assert (await visitor.get("/api/jobs", headers=headers)).status_code == 401
        headers = {**BASIC, "x-forwarded-for": "192.0.2.99"}
        assert (await visitor.get("/api/jobs", headers=headers)).status_code == 429


async def test_behind_a_trusted_proxy_clients_are_told_apart() -> None:
    async with browser(guarded(trusted_proxies=["127.0.0.1"])) as visitor:
        for _ in range(5):
            headers = {**wrong("basic"), "x-forwarded-for": "192.0.2.1"}
            assert (await visitor.get("/api/jobs", headers=headers)).status_code == 401
        headers = {**BASIC, "x-forwarded-for": "192.0.2.1"}
        assert (await visitor.get("/api/jobs", headers=headers)).status_code == 429
        headers = {**BASIC, "x-forwarded-for": "192.0.2.2"}
        assert (await visitor.get("/api/jobs", headers=headers)).status_code == 200


# --- other sites ----------------------------------------------------------------------------------

FORGERIES = {
    "sec-fetch-site": ("cross-site", "same-site", "none"),
    "origin": ("https://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:5678"),
    "content-type": ("text/plain", "application/x-www-form-urlencoded", ""),
    CSRF_HEADER: ("", "x", "é"),
}
CASES = [(name, value) for name, values in FORGERIES.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
async def test_each_sign_of_another_site_alone_is_refused_by_name(name: str, value: str) -> None:
    async with browser(guarded()) as visitor:
        headers = await writing(visitor, BASIC)
        assert (await visitor.post("/api/jobs", headers=headers)).status_code == 200
        raw = [(key.encode(), text.encode()) for key, text in {**headers, name: value}.items()]
        answer = await visitor.post("/api/jobs", headers=raw)
        assert answer.status_code == 403
        assert name in answer.json()["error"].lower()


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "NONSENSE"])
@pytest.mark.parametrize("name", ["content-type", CSRF_HEADER])
async def test_what_is_missing_is_refused_for_each_method(method: str, name: str) -> None:
    async with browser(guarded()) as visitor:
        headers = await writing(visitor, BASIC)
        del headers[name]
        answer = await visitor.request(method, "/api/jobs", headers=headers)
        assert (answer.status_code, name in answer.text.lower()) == (403, True)


@pytest.mark.parametrize("mode", ["bearer", "header"])
async def test_a_header_that_no_browser_adds_needs_no_token(mode: Mode) -> None:
    async with browser(guarded(mode)) as visitor:
        headers = {**CREDENTIALS[mode], **JSON}
        assert (await visitor.post("/api/jobs", headers=headers)).status_code == 200
        headers |= {"sec-fetch-site": "cross-site"}
        assert (await visitor.post("/api/jobs", headers=headers)).status_code == 403


async def test_the_token_of_one_admin_is_nothing_to_another() -> None:
    async with browser(guarded()) as one, browser(guarded()) as other:
        headers = await writing(one, BASIC)
        assert (await other.post("/api/jobs", headers=headers)).status_code == 403


@pytest.mark.parametrize("mode", MODES)
async def test_the_api_answers_no_other_site_and_says_nothing_of_cors(mode: Mode) -> None:
    async with browser(guarded(mode)) as visitor:
        for site, status in {"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200}.items():
            headers = {**CREDENTIALS[mode], "sec-fetch-site": site, "origin": "https://evil.example"}
            answer = await visitor.get("/api/jobs", headers=headers)
            assert answer.status_code == status
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_public_url_is_an_origin_of_ours() -> None:
    app = guarded("bearer", public_url="https://pub.example/ops")
    async with browser(app) as visitor:
        headers = {**BEARER, **JSON, "host": "pub.example", "origin": "https://pub.example"}
        assert (await visitor.post("/api/jobs", headers=headers)).status_code == 200


# --- what may be done -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_read_only_refuses_all_that_could_change_something(mode: Mode) -> None:
    async with browser(guarded(mode, read_only=True)) as visitor:
        headers = await writing(visitor, CREDENTIALS[mode])
        for path in ("/api/jobs", "/api/maintenance", "/nothing"):
            answer = await visitor.post(path, headers=headers, content=b"{")
            assert (answer.status_code, "read-only" in answer.json()["error"]) == (403, True)
        assert (await visitor.get("/api/jobs", headers=CREDENTIALS[mode])).json()["may"] == []


async def test_the_checks_come_in_their_order() -> None:
    async with browser(guarded(read_only=True)) as visitor:
        headers = {**wrong("basic"), "host": "evil.example"}
        assert (await visitor.post("/api/jobs", headers=headers)).status_code == 421
        del headers["host"]
        for status in (401, 401, 401, 401, 401, 429):
            assert (await visitor.post("/api/jobs", headers=headers)).status_code == status
    async with browser(guarded(read_only=True)) as visitor:
        assert CSRF_HEADER in (await visitor.post("/api/jobs", headers={**BASIC, **JSON})).text
        headers = await writing(visitor, BASIC)
        assert "read-only" in (await visitor.post("/api/jobs", headers=headers)).text


async def test_what_is_served_knows_clients_as_the_limit_does() -> None:
    app = guarded(trusted_proxies=["10.0.0.1"])
    async with browser(app, client="10.0.0.1") as visitor:
        answer = await visitor.get("/api/x", headers={**BASIC, "x-forwarded-for": "1.1.1.1, 192.0.2.7"})
        assert answer.json()["client"] == "192.0.2.7"


# --- where we are ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mounted", "public", "asked", "path", "root"),
    [
        ("", None, "/jobs", "/jobs", ""),
        ("/ops/queue", None, "/ops/queue/jobs", "/ops/queue/jobs", "/ops/queue"),
        ("", "https://pub.example/ops/queue", "/jobs", "/ops/queue/jobs", "/ops/queue"),
        ("", "https://pub.example/ops/queue", "/ops/queue/jobs", "/ops/queue/jobs", "/ops/queue"),
        ("", "https://pub.example/ops/queue", "/ops/queue", "/ops/queue/", "/ops/queue"),
        ("/queue", "https://pub.example/ops", "/queue/jobs", "/ops/jobs", "/ops"),
        ("", "https://pub.example/%C3%A4%20b", "/ä b/jobs", "/ä b/jobs", "/ä b"),
        ("/очередь", None, "/очередь/jobs", "/очередь/jobs", "/очередь"),
        ("/\\evil.example", None, "/%5Cevil.example/jobs", "/\\evil.example/jobs", "/\\evil.example"),
        ("", "https://pub.example/ops", "/opsen", "/ops/opsen", "/ops"),
    ],
)
async def test_the_prefix_is_the_one_that_browsers_see(
    mounted: str, public: str | None, asked: str, path: str, root: str
) -> None:
    app = guarded(public_url=public)
    async with browser(app, root_path=mounted) as visitor:
        seen = (await visitor.get(asked, headers=BASIC)).json()
        assert (seen["path"], seen["root_path"]) == (path, root)
        assert seen["scheme"] == ("http" if public is None else "https")
        answer = await visitor.get(asked)
        base = quote(root)
        assert answer.headers["location"].startswith(f"{base}/login?next={quote(base, safe='')}%2F")


# --- answers --------------------------------------------------------------------------------------


def assert_strict(answer: httpx2.Response) -> None:
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"


async def test_all_refusals_have_the_security_headers() -> None:
    async with browser(guarded()) as visitor:
        answers = [
            await visitor.get("/api/jobs", headers={"host": "evil.example"}),
            await visitor.get("/api/jobs"),
            await visitor.get("/jobs"),
            await visitor.get("/jobs", headers={"sec-fetch-site": "cross-site"}),
            await visitor.get("/login"),
            await visitor.post("/api/jobs", headers=BASIC),
            await visitor.request("PUT", "/login"),
            *[await visitor.get("/api/jobs", headers=wrong("basic")) for _ in range(6)],
        ]
        assert {answer.status_code for answer in answers} == {421, 401, 303, 200, 403, 405, 429}
        for answer in answers:
            assert_strict(answer)


async def test_no_secret_is_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with browser(guarded()) as visitor:
            await visitor.get("/api/jobs", headers=BASIC)
            await visitor.get("/api/jobs", headers={"authorization": f"Basic {SECRET}"})
            await visitor.post("/login", json={"username": SECRET, "secret": "guess-2"})
            answer = await visitor.post("/login", json={"username": "admin", "secret": SECRET})
            [session] = [line.split(";")[0].partition("=")[2] for line in set_cookies(answer).values()][:1]
    lines = [record for record in caplog.records if record.name.startswith("trio_graphile")]
    assert len(lines) == 3
    for secret in (SECRET, "guess-2", session, BASIC["authorization"]):
        assert secret not in "".join(record.getMessage() for record in lines)
    assert SECRET not in repr(options_of())
