"""What nobody sends by accident, over a real connection: it is refused, and no error of ours."""

from __future__ import annotations

import functools
import json
import logging

import pytest
import trio

from tests.admin.serving import answers, read_all
from trio_graphile import Client, Database, JobSpec
from trio_graphile.admin import Admin, AdminOptions, LoginOptions, serve_admin

BOUND = 60
SECRET = "swordfish-1"
TARGETS = {
    "/api/jobs/1e3": 400,
    "/api/jobs/%D9%A3": 400,
    "/api/jobs/0": 400,
    "/api/jobs/-1": 400,
    "/api/jobs/9223372036854775808": 400,
    "/api/jobs/99999999999999999999999": 400,
    "/api/jobs/9223372036854775807": 404,
    "/api/jobs/%00": 400,
    "/api/jobs/1;x": 400,
    "/api/jobs/1/": 404,
    "/api//jobs": 404,
    "//api/jobs": 404,
    "/api/jobs/%2e%2e/session": 404,
    "/api/..%2fhealthz": 404,
    "/static/..%2f..%2fadmin.css": 404,
    "/static/%2e%2e": 404,
    "/static/%00": 404,
    "/static/;": 404,
    "/static/": 404,
    "/healthz;x": 404,
    "/jobs/%D9%A3": 404,
    "/jobs/9223372036854775808": 400,
    "/jobs/%00": 404,
    "/%00": 404,
    "/%FF": 400,
    "/jobs/%C0%AF": 400,
    "/jobs?after=%00": 400,
    "/jobs?search=%FF": 400,
    "/jobs?search=%00": 400,
    "/jobs?search=%ED%A0%80": 400,
    "/jobs?state=%3Csvg%20onload=alert(1)%3E": 400,
    "/api/jobs?limit=1e3": 400,
    "/api/jobs?limit=%D9%A3": 400,
    "/api/jobs?offset=-1": 400,
    "/api/jobs?after=AAAA": 400,
    "/api/jobs?after=%22": 400,
    "/api/jobs?until_id=9223372036854775808": 400,
    "/api/jobs?search=%25%5F%5C%27%22": 200,
    "/api/jobs?search=" + "x" * 1001: 400,
    "/api/jobs?" + "a=b&" * 1500: 400,
    "/" + "a" * 9000: 414,
    "http://127.0.0.1/api/jobs": 400,
    "*": 400,
}
BODIES = {
    b'{"identifier": "a\\u0000"}': 400,
    b'{"identifier": "\\ud800"}': 400,
    b'{"identifier": "a", "payload": 1e400}': 400,
    b'{"identifier": "a", "payload": ' + b"[" * 5000 + b"]" * 5000 + b"}": 400,
    b'{"identifier": "a", "identifier": "b"}': 400,
    b'{"identifier": "a", "payload": "\\u0000"}': 200,
    b"{}": 400,
    b"": 400,
    b"null": 400,
    b"[]": 400,
    b"\xff": 400,
    b'{"identifier": "a", "run_at": "9999-12-31T23:59:59-23:59"}': 400,
    b'{"identifier": "a", "priority": 32768}': 400,
}


def request(method: str, target: str, body: bytes = b"", *, secret: str = SECRET) -> bytes:
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Authorization: Bearer {secret}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def test_whatever_is_asked_is_answered_as_it_should_be(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    admin = Admin(Client(database), AdminOptions(login=LoginOptions(mode="bearer", secret=SECRET)))
    wrong = []
    with trio.fail_after(BOUND), caplog.at_level(logging.DEBUG, "trio_graphile"):
        async with trio.open_nursery() as nursery:
            await nursery.start(admin.run)
            [url] = await nursery.start(functools.partial(serve_admin, admin, "127.0.0.1:0"))
            requests = [(request("GET", target), status) for target, status in TARGETS.items()]
            requests += [(request("POST", "/api/jobs", body), status) for body, status in BODIES.items()]
            requests += [(request(method, "/api/jobs"), 405) for method in ("PUT", "TRACE", "OPTIONS", "X-Y")]
            requests += [(request("GET", "/api/jobs", secret="guess"), 401)] * 5
            requests += [(request("GET", "/api/jobs"), 429)]
            for octets, status in requests:
                async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
                    await stream.send_all(octets)
                    [answer] = answers(await read_all(stream))
                shown = octets.split(b"\r\n")[0][:60] + octets.partition(b"\r\n\r\n")[2][:60]
                if answer.status != status:
                    wrong.append((shown, answer.status, answer.body[:100]))
                if b" /api" in octets and status >= 400:
                    assert answer.headers[b"content-type"] == b"application/json", shown
                    assert answer.error
                assert b"<svg" not in answer.body
                assert answer.headers[b"x-frame-options"] == b"DENY"
            nursery.cancel_scope.cancel()
    assert wrong == []
    assert [record for record in caplog.records if record.levelno > logging.WARNING or record.exc_info] == []
    assert [record for record in caplog.records if SECRET in record.getMessage()] == []


async def test_a_hundred_guesses_at_once_are_five(database: Database) -> None:
    admin = Admin(Client(database), AdminOptions(login=LoginOptions(mode="bearer", secret=SECRET)))
    statuses: list[int] = []
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            await nursery.start(admin.run)
            [url] = await nursery.start(functools.partial(serve_admin, admin, "127.0.0.1:0"))

            async def guess(number: int) -> None:
                async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
                    body = json.dumps({"secret": f"guess {number}"}).encode()
                    if number % 2:
                        await stream.send_all(request("POST", "/login", body))
                    else:
                        await stream.send_all(request("GET", "/api/jobs", secret=f"guess-{number}"))
                    [answer] = answers(await read_all(stream), ["POST" if number % 2 else "GET"])
                    statuses.append(answer.status)

            async with trio.open_nursery() as guessing:
                for number in range(60):
                    guessing.start_soon(guess, number)
            nursery.cancel_scope.cancel()
    assert sorted(statuses) == [401] * 5 + [429] * 55


async def test_audit_lines_have_no_payloads_and_no_secrets(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change is one line, those that fail as well; what a key says cannot end it."""
    hidden = "hidden\r\n\x1b[2Jforged"
    options = AdminOptions(login=LoginOptions(mode="bearer", secret=SECRET))
    admin, client = Admin(Client(database), options), Client(database)
    job = await client.add_raw_job("a", {"password": hidden}, JobSpec(job_key="k"))
    changes = [
        ("/api/jobs", {"identifier": "a", "payload": {"password": hidden}}),
        ("/api/jobs/action", {"action": "fail", "ids": [job.id], "reason": hidden}),
        ("/api/jobs/action", {"action": "reschedule", "ids": [10**15], "priority": 1}),
        ("/api/jobs/remove-by-key", {"key": hidden}),
        ("/api/maintenance", {"action": "force-unlock", "worker_ids": ["gone\r\n\x1b[2Jforged"]}),
        ("/api/maintenance", {"action": "cleanup", "cleanup_tasks": ["gc-job-queues"]}),
    ]
    with trio.fail_after(BOUND), caplog.at_level(logging.DEBUG):
        async with trio.open_nursery() as nursery:
            await nursery.start(admin.run)
            [url] = await nursery.start(functools.partial(serve_admin, admin, "127.0.0.1:0"))
            for path, body in changes:
                async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
                    await stream.send_all(request("POST", path, json.dumps(body).encode()))
                    [answer] = answers(await read_all(stream), ["POST"])
                    assert answer.status in (200, 400), answer.body
            nursery.cancel_scope.cancel()
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_graphile.admin.audit"]
    assert len(lines) == len(changes)
    assert all(line.isprintable() and line.startswith('user="admin" action=') for line in lines)
    text = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("trio_graphile")
    )
    assert "hidden" not in text
    assert SECRET not in text
