"""What the OpenAPI document allows is served, what it forbids is refused, and nothing is a fault of ours."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.admin.guarded import CREDENTIALS, SECRET, options_of
from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile._model.jobs import JobSpec
from trio_graphile.admin._api.openapi import document_of, security_of
from trio_graphile.admin._api.table import ENDPOINTS
from trio_graphile.admin._context import Context
from trio_graphile.admin._options import AdminOptions, Mode
from trio_graphile.admin._routes import make_router
from trio_graphile.admin._safety.answering import StrictAnswers
from trio_graphile.admin._safety.authentication import Lock
from trio_graphile.admin._safety.checks import CSRF_HEADER
from trio_graphile.admin._safety.guard import Guard
from trio_graphile.admin._safety.limiter import AttemptLimiter
from trio_graphile.admin._server.serving import serve_admin

EXAMPLES = 10
"""How many requests each operation is tried with, for each kind of data that is made up: no time decides."""
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "414"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "413", "414", "415", "431"]
"""  # a document cannot say how long an address may be


class Patient(AttemptLimiter):
    """Has nobody wait: wrong secrets are tried often here."""

    def failed(self, client: str, now: float) -> None:
        """Forget it."""


def _document(options: AdminOptions) -> dict[str, Any]:
    """The document without what cannot be made up: places in lists, and a stream that does not end."""
    document = copy.deepcopy(document_of(ENDPOINTS, security=security_of(options)))
    del document["paths"]["/api/events"]
    for path in ("/api/jobs", "/api/jobs/export"):
        for parameter in document["paths"][path]["get"]["parameters"]:
            if parameter["name"] == "after":
                parameter["schema"] = {"type": "string", "maxLength": 0}
    document["components"]["schemas"]["ActionRequest"]["properties"]["after"] = {"type": "null"}
    return document


async def _schemathesis(
    url: str, folder: Path, document: dict[str, Any], headers: dict[str, str], seed: int
) -> subprocess.CompletedProcess[bytes]:
    await trio.Path(folder, "openapi.json").write_text(json.dumps(document))
    await trio.Path(folder, "schemathesis.toml").write_text(CONFIG)
    options = {
        "--url": url.rstrip("/"),
        "--checks": "all",
        # Whether another site forged the request is looked at before whether there is such a method.
        "--exclude-checks": "unsupported_method",
        "--seed": str(seed),
        "--max-examples": str(EXAMPLES),
        "--suppress-health-check": "all",
    }
    arguments = [part for option in options.items() for part in option]
    arguments += [part for header in headers.items() for part in ("--header", ":".join(header))]
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--continue-on-failure"]
    return await trio.run_process(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
        capture_stdout=True,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["basic", "bearer", "header", "none"])
async def test_any_request_is_answered_as_the_document_says(
    database: Database, tmp_path: Path, pytestconfig: pytest.Config, mode: Mode
) -> None:
    client, options = Client(database), options_of(mode)
    for number in range(20):
        await client.add_raw_job("print", {"n": number}, JobSpec(queue_name=f"q{number % 3}"))
    context = Context(client=client, database=database, options=options)
    lock = Lock.of(options.login, SECRET)
    guard = Guard(
        app=make_router(context), options=options, lock=lock, audit=context.audit, limiter=Patient()
    )
    with trio.fail_after(400):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(partial(serve_admin, StrictAnswers(guard), "127.0.0.1:0"))
            async with httpx2.AsyncClient(base_url=url, headers=CREDENTIALS[mode]) as http:
                token = (await http.get("/api/session")).json()["csrf_token"]
            # By this name it is left out where the check wants to come in without it.
            named = {name.replace("auth", "Auth"): text for name, text in CREDENTIALS[mode].items()}
            headers = {**named, CSRF_HEADER: token}
            seed = pytestconfig.getoption("--seed")
            run = await _schemathesis(url, tmp_path, _document(options), headers, seed)
            nursery.cancel_scope.cancel()
    report = run.stdout.decode(errors="replace")
    assert run.returncode == 0, "\n".join(line[:300] for line in report.splitlines()[-200:])
    assert f"Tested: {len(ENDPOINTS) - 1}" in report
