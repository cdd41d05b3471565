"""What holds for every answer."""

from __future__ import annotations

import logging

import httpx2
import pytest
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from tests.admin.guarded import browser
from trio_graphile._exceptions import ConnectionLost, DatabaseClosed, StatementFailed
from trio_graphile.admin._headers import SECURITY_HEADERS
from trio_graphile.admin._safety.answering import StrictAnswers


class Raising:
    """An application that fails."""

    def __init__(self, error: Exception, *, begins: bool = False) -> None:
        self._error = error
        self._begins = begins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._begins:
            await PlainTextResponse("so far")(scope, receive, send)
        raise self._error


async def answer_to(error: Exception, path: str = "/api/jobs") -> httpx2.Response:
    async with browser(StrictAnswers(Raising(error))) as visitor:
        return await visitor.get(path)


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyError("hidden"), 500, "internal server error"),
        (ExceptionGroup("hidden", [ValueError("hidden")]), 500, "internal server error"),
        (StatementFailed("hidden", sqlstate="42P01"), 500, "internal server error"),
        (
            StatementFailed("hidden", sqlstate="57014"),
            503,
            "the database took too long: ask for less, or try again later",
        ),
        (ConnectionLost("hidden"), 503, "the database does not answer"),
        (DatabaseClosed(), 503, "the admin stops"),
        (HTTPException(404), 404, "not found"),
        (HTTPException(405, headers={"allow": "GET"}), 405, "method not allowed"),
    ],
)
async def test_errors_are_json_for_the_api_and_tell_nothing(error: Exception, status: int, text: str) -> None:
    answer = await answer_to(error)
    assert (answer.status_code, answer.json()) == (status, {"error": text})
    page = await answer_to(error, "/jobs")
    assert (page.status_code, page.text) == (status, f"{text}\n")
    for found in (answer, page):
        assert {(name, found.headers[name.decode()].encode()) for name, _ in SECURITY_HEADERS} == {
            *SECURITY_HEADERS
        }
    assert answer.headers.get("allow") == ("GET" if status == 405 else None)


@pytest.mark.parametrize("path", ["/api/x", "/api", "/ops/queue/api/x"])
async def test_errors_are_json_for_the_api_whatever_a_proxy_leaves_before_it(path: str) -> None:
    answer = await answer_to(HTTPException(404), path)
    assert answer.json() == {"error": "not found"}


async def test_what_is_our_fault_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trio_graphile"):
        await answer_to(KeyError("the reason"))
    [record] = caplog.records
    assert (record.levelname, "the reason" in (record.exc_text or "")) == ("ERROR", True)


async def test_after_the_answer_has_begun_there_is_no_other() -> None:
    async with browser(StrictAnswers(Raising(KeyError("late"), begins=True))) as visitor:
        with pytest.raises(KeyError):
            await visitor.get("/")


async def test_an_application_cannot_weaken_the_headers_but_may_let_files_be_kept() -> None:
    async def lax(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"X-Frame-Options": "ALLOWALL", "Content-Security-Policy": "", "Cache-Control": "max-age=1"}
        await PlainTextResponse("", headers=headers)(scope, receive, send)

    async with browser(StrictAnswers(lax)) as visitor:
        answer = await visitor.get("/static/admin.css")
        assert answer.headers.get_list("x-frame-options") == ["DENY"]
        assert len(answer.headers.get_list("content-security-policy")) == 1
        assert answer.headers.get_list("cache-control") == ["max-age=1"]
