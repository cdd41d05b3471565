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

import pytest
import trio
from starlette.applications import Starlette

from tests.admin.api import ADA, As, Ledger
from trio_graphile._client import Client
from trio_graphile._database.database import Database
from trio_graphile._model.jobs import JobSpec
from trio_graphile.admin._api.openapi import document_of
from trio_graphile.admin._api.routes import routes
from trio_graphile.admin._api.table import ENDPOINTS
from trio_graphile.admin._context import Context
from trio_graphile.admin._options import AdminOptions
from trio_graphile.admin._server.serving import serve_admin

SECONDS = 30
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "414"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "413", "414", "415", "431"]
"""  # a document cannot say how long an address may be


def _document() -> dict[str, Any]:
    """The document without what cannot be made up: places in lists, and a stream that does not end."""
    document = copy.deepcopy(document_of(ENDPOINTS))
    del document["paths"]["/api/events"]
    for path in ("/api/jobs", "/api/jobs/export"):
        for parameter in document["paths"][path]["get"]["parameters"]:
            if parameter["name"] == "after":
                parameter["schema"] = {"type": "string", "maxLength": 0}
    document["components"]["schemas"]["ActionRequest"]["properties"]["after"] = {"type": "null"}
    return document


async def _schemathesis(url: str, folder: Path, seed: int) -> subprocess.CompletedProcess[bytes]:
    await trio.Path(folder, "openapi.json").write_text(json.dumps(_document()))
    await trio.Path(folder, "schemathesis.toml").write_text(CONFIG)
    options = {
        "--url": url.rstrip("/"),
        "--checks": "all",
        "--seed": str(seed),
        "--max-time": str(SECONDS),
        "--max-examples": "100",
        "--suppress-health-check": "all",
    }
    arguments = [part for option in options.items() for part in option]
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--continue-on-failure"]
    return await trio.run_process(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
        capture_stdout=True,
        stderr=subprocess.STDOUT,
    )


async def test_any_request_is_answered_as_the_document_says(
    database: Database, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    client = Client(database)
    for number in range(20):
        await client.add_raw_job("print", {"n": number}, JobSpec(queue_name=f"q{number % 3}"))
    context = Context(client=client, database=database, options=AdminOptions(), audit=Ledger())
    app = As(Starlette(routes=routes(context)), ADA, None)
    with trio.fail_after(110):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(partial(serve_admin, app, "127.0.0.1:0"))
            run = await _schemathesis(url, tmp_path, pytestconfig.getoption("--seed"))
            nursery.cancel_scope.cancel()
    report = run.stdout.decode(errors="replace")
    assert run.returncode == 0, "\n".join(line[:300] for line in report.splitlines()[-200:])
    assert f"Tested: {len(ENDPOINTS) - 1}" in report
