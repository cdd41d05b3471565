"""Logging in and out in a browser."""

from __future__ import annotations

import pytest
import trio.testing
from starlette.types import Message, Scope

from tests.admin.guarded import (
    FORM,
    HOST,
    JSON,
    SECRET,
    browser,
    guarded,
    log_in,
    pass_time,
    set_cookies,
    writing,
)
from trio_graphile.admin._options import Mode
from trio_graphile.admin._safety.checks import CSRF_HEADER
from trio_graphile.admin._safety.login import place_after

SESSION = "trio_graphile_session_5678"


@pytest.mark.parametrize("mode", ["basic", "bearer", "header"])
async def test_a_browser_logs_in_once(mode: Mode) -> None:
    async with browser(guarded(mode)) as visitor:
        answer = await log_in(visitor, next="/jobs?state=failed")
        assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
        seen = (await visitor.get("/api/jobs")).json()
        assert (seen["user"], seen["may_log_out"]) == ("admin", True)
        assert (await visitor.post("/api/jobs", headers=await writing(visitor))).status_code == 200


async def test_a_session_of_a_browser_needs_the_token() -> None:
    async with browser(guarded()) as visitor:
        await log_in(visitor)
        answer = await visitor.post("/api/jobs", headers=JSON)
        assert (answer.status_code, CSRF_HEADER in answer.text) == (403, True)


async def test_the_token_of_one_session_is_nothing_to_another() -> None:
    app = guarded()
    async with browser(app) as one, browser(app) as other:
        await log_in(one)
        await log_in(other)
        assert (await other.post("/api/x", headers=await writing(other))).status_code == 200
        answer = await other.post("/api/x", headers=await writing(one))
        assert (answer.status_code, "csrf" in answer.text) == (403, True)


async def test_a_script_logs_in_with_json() -> None:
    async with browser(guarded()) as visitor:
        wrong = await visitor.post("/login", json={"username": "admin", "secret": "x"})
        assert (wrong.status_code, "error" in wrong.json()) == (401, True)
        answer = await visitor.post(
            "/login", json={"username": "admin", "secret": SECRET, "next": "//evil.example"}
        )
        assert (answer.status_code, answer.json()["next"]) == (200, "/")
        assert (await visitor.get("/")).status_code == 200


@pytest.mark.parametrize("fields", [{"secret": "x"}, {"username": "eve"}, {"secret": ""}])
async def test_what_is_wrong_shows_the_form_once_more(fields: dict[str, str]) -> None:
    async with browser(guarded()) as visitor:
        answer = await log_in(visitor, **{"next": "/jobs", **fields})
        token, place, error, action = answer.text.split("|")
        assert (answer.status_code, place, error, action) == (401, "/jobs", "That is not right.", "/login")
        assert SESSION not in visitor.cookies
        right = await visitor.post("/login", data={"username": "admin", "secret": SECRET, "token": token})
        assert right.status_code == 303


@pytest.mark.parametrize(
    ("base_url", "public", "root", "attributes"),
    [
        (HOST, None, "", "Path=/; HttpOnly; SameSite=Strict"),
        (HOST, None, "/ops/queue", "Path=/ops/queue; HttpOnly; SameSite=Strict"),
        (HOST, "https://127.0.0.1:5678/ops", "", "Path=/ops; HttpOnly; SameSite=Strict; Secure"),
        ("https://127.0.0.1:5678", None, "", "Path=/; HttpOnly; SameSite=Strict; Secure"),
    ],
)
async def test_no_script_reads_the_cookie_and_no_other_site_sends_it(
    base_url: str, public: str | None, root: str, attributes: str
) -> None:
    async with browser(guarded(public_url=public), base_url=base_url, root_path=root) as visitor:
        answer = await visitor.post(f"{root}/login", json={"username": "admin", "secret": SECRET})
        value, _, found = set_cookies(answer)[SESSION].removeprefix(f"{SESSION}=").partition("; ")
        assert found == attributes
        assert len(value) >= 43


async def test_a_login_makes_a_new_session_and_voids_the_old_one() -> None:
    app = guarded()
    async with browser(app) as visitor, browser(app) as thief:
        await log_in(visitor)
        before = visitor.cookies[SESSION]
        thief.cookies.set(SESSION, before, "127.0.0.1")
        assert (await thief.get("/api/jobs")).status_code == 200
        await log_in(visitor)
        assert visitor.cookies[SESSION] != before
        assert (await thief.get("/api/jobs")).status_code == 401


async def test_an_identifier_that_was_planted_is_worthless_after_the_login() -> None:
    app = guarded()
    async with browser(app) as visitor, browser(app) as attacker:
        for client in (visitor, attacker):
            client.cookies.set(SESSION, "planted", "127.0.0.1")
        await visitor.post("/login", json={"username": "admin", "secret": SECRET})
        assert (await attacker.get("/api/jobs")).status_code == 401


async def test_logging_out_ends_the_session() -> None:
    app = guarded()
    async with browser(app) as visitor, browser(app) as thief:
        await log_in(visitor)
        thief.cookies.set(SESSION, visitor.cookies[SESSION], "127.0.0.1")
        assert (await visitor.post("/logout", headers=JSON)).status_code == 403
        answer = await visitor.post("/logout", headers=await writing(visitor), content=b"{}")
        assert answer.status_code == 200
        assert "Max-Age=0" in set_cookies(answer)[SESSION]
        assert (await thief.get("/api/jobs")).status_code == 401


async def test_a_reader_can_log_out() -> None:
    async with browser(guarded(read_only=True)) as visitor:
        await log_in(visitor)
        assert (await visitor.post("/logout", headers=await writing(visitor))).status_code == 200


async def test_sessions_end_by_the_clock(autojump_clock: trio.testing.MockClock) -> None:
    async with browser(guarded()) as visitor:
        await log_in(visitor)
        await pass_time(1799)
        assert (await visitor.get("/api/jobs")).status_code == 200
        await pass_time(1800)
        assert (await visitor.get("/api/jobs")).status_code == 401
        await log_in(visitor)
        for _ in range(24):
            assert (await visitor.get("/api/jobs")).status_code == 200
            await pass_time(1799)
        assert (await visitor.get("/api/jobs")).status_code == 200
        await pass_time(24)
        assert (await visitor.get("/api/jobs")).status_code == 401


# --- forged logins --------------------------------------------------------------------------------


async def test_the_form_of_another_site_logs_nobody_in() -> None:
    app = guarded()
    async with browser(app) as attacker:
        token = (await attacker.get("/login")).text.partition("|")[0]
    filled = {"username": "admin", "secret": SECRET, "token": token}
    async with browser(app) as visitor:
        assert (await visitor.post("/login", data=filled)).status_code == 403
        await visitor.get("/login")
        answer = await visitor.post("/login", data=filled)
        assert (answer.status_code, "token" in answer.text) == (403, True)
        assert SESSION not in visitor.cookies


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"origin": "null"}]
)
async def test_a_login_comes_from_our_own_page(headers: dict[str, str]) -> None:
    async with browser(guarded()) as visitor:
        token = (await visitor.get("/login")).text.partition("|")[0]
        filled = {"username": "admin", "secret": SECRET, "token": token}
        answer = await visitor.post("/login", data=filled, headers=headers)
        assert (answer.status_code, next(iter(headers)) in answer.text.lower()) == (403, True)


async def test_json_in_a_body_of_another_type_is_no_login() -> None:
    async with browser(guarded()) as visitor:
        body = f'{{"username": "admin", "secret": "{SECRET}"}}'
        answer = await visitor.post("/login", content=body, headers={"content-type": "text/plain"})
        assert (answer.status_code, "content-type" in answer.text.lower()) == (403, True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"secret": 1}', 400),
        (b"[" * 16_000, 400),
        (b"\xff", 400),
    ],
)
async def test_bodies_that_are_no_login(body: bytes, status: int) -> None:
    async with browser(guarded()) as visitor:
        answer = await visitor.post("/login", content=body, headers=JSON)
        assert (answer.status_code, [*answer.json()]) == (status, ["error"])


async def test_no_more_of_a_body_is_read_than_a_login_can_have() -> None:
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/login",
        "query_string": b"",
        "headers": headers,
    }
    sent: list[Message] = []
    received: list[Message] = []

    async def receive() -> Message:
        received.append({"type": "http.request", "body": b" " * 10_000, "more_body": True})
        return received[-1]

    async def send(message: Message) -> None:
        sent.append(message)

    await guarded()(scope, receive, send)
    assert (sent[0]["status"], len(received)) == (413, 2)


async def test_forms_with_many_fields_are_no_login() -> None:
    async with browser(guarded()) as visitor:
        answer = await visitor.post("/login", content=b"a=1&" * 2000, headers=FORM)
        assert answer.status_code == 400


async def test_guesses_at_the_form_count(autojump_clock: trio.testing.MockClock) -> None:
    app = guarded()
    async with browser(app) as visitor:
        for _ in range(5):
            assert (await log_in(visitor, secret="x")).status_code == 401
        answer = await log_in(visitor)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
        assert (await visitor.post("/login", json={"secret": SECRET})).status_code == 429
        await pass_time(60)
        assert (await log_in(visitor)).status_code == 303


# --- links ----------------------------------------------------------------------------------------


async def test_a_link_from_elsewhere_works_by_one_refresh() -> None:
    async with browser(guarded()) as visitor:
        await log_in(visitor)
        cookies = dict(visitor.cookies)
        visitor.cookies.clear()  # as SameSite=Strict has it
        elsewhere = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        answer = await visitor.get("/jobs?state=failed", headers=elsewhere)
        assert answer.status_code == 200
        assert '<meta http-equiv="refresh" content="0">' in answer.text
        visitor.cookies.update(cookies)
        own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
        assert (await visitor.get("/jobs?state=failed", headers=own)).json()["user"] == "admin"
        visitor.cookies.clear()
        assert (await visitor.get("/jobs?state=failed", headers=own)).status_code == 303


@pytest.mark.parametrize(
    ("place", "prefix", "found"),
    [
        ("/jobs?state=failed&q=a%20b", "", "/jobs?state=failed&q=a%20b"),
        ("/ops/jobs", "/ops", "/ops/jobs"),
        ("/ops", "/ops", "/ops"),
        ("/other", "/ops", "/ops/"),
        ("/opsen", "/ops", "/ops/"),
        ("/ops/../other", "/ops", "/ops/"),
        ("/ops/..?a", "/ops", "/ops/"),
        ("/ops/..#a", "/ops", "/ops/"),
        ("/ops/%2E%2e/other", "/ops", "/ops/"),
        ("/ops/.%2e", "/ops", "/ops/"),
        ("/ops/a..b?c=/../d", "/ops", "/ops/a..b?c=/../d"),
        ("", "", "/"),
        ("jobs", "", "/"),
        ("//evil.example", "", "/"),
        ("/\\evil.example", "", "/"),
        ("/\t/evil.example", "", "/"),
        ("/a\r\nset-cookie: x=y", "", "/"),
        ("https://evil.example", "", "/"),
        ("javascript:alert(1)", "", "/"),
        ("/jöbs", "", "/"),
    ],
)
def test_after_the_login_nobody_is_sent_elsewhere(place: str, prefix: str, found: str) -> None:
    assert place_after(place, prefix) == found
