"""How we install the schema in the storm, and add jobs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from tests.storm.ours_settings import Settings
from trio_graphile import (
    Client,
    Database,
    DatabaseError,
    DatabaseOptions,
    JobSpec,
    TaskRegistry,
    open_database,
)

ITEMS_PER_BATCH = 3
_EFFECTS = "create table storm_effects (token bigint not null)"


def queue_of(payload: dict[str, Any]) -> str | None:
    """Return the name of the queue of a job: of some of one kind each."""
    return f"queue {payload['token'] % 8}" if payload["kind"] == "queued" else None


def jobs_of(payloads: Iterable[dict[str, Any]]) -> Iterator[tuple[str, Any, JobSpec]]:
    """Yield the jobs for payloads: a kind that has a task of its own gets that, and batches gather."""
    items = []
    for payload in payloads:
        match payload["kind"]:
            case "batch":
                items.append(payload)
            case "stubborn" | "transaction" | "thread" | "deaf" as identifier:
                yield identifier, payload, JobSpec()
            case _:
                yield "work", payload, JobSpec(queue_name=queue_of(payload))
    for begin in range(0, len(items), ITEMS_PER_BATCH):
        yield "batch", items[begin : begin + ITEMS_PER_BATCH], JobSpec()


def _opened() -> AbstractAsyncContextManager[Database]:
    settings = Settings.of_environment()
    options = DatabaseOptions(pool_size=1, connect_timeout=30.0)
    return open_database(settings.direct_url or settings.database_url, options)


async def set_up() -> None:
    """Install the schema, and the table for what transactions do."""
    async with _opened() as database:
        await Client(database, TaskRegistry()).migrate()
        await database.execute(_EFFECTS)


async def add() -> None:
    """Add the jobs of each line of standard input."""
    async with _opened() as database:
        client = Client(database, TaskRegistry())
        async for line in trio.wrap_file(sys.stdin):
            try:
                await client.add_raw_jobs(jobs_of(json.loads(line)))
            except DatabaseError:
                print("failed", flush=True)
            else:
                print("added", flush=True)
