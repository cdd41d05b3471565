"""Calls of the schema's functions, and the rows they return."""

from __future__ import annotations

from typing import Any

from trio_graphile._database.connection import Executor
from trio_graphile._database.database import Database

Row = dict[str, Any]

COLUMNS = """
    id, job_queue_id, task_id, payload::text as payload, priority, run_at, attempts, max_attempts, last_error,
    created_at, updated_at, key, locked_at, locked_by, revision, flags::text as flags, is_available
"""

CASTS = {"payload": "::text::json", "max_attempts": "::integer", "priority": "::integer"}
"""JSON goes as it is written, to the byte, and a number that is too large to the server, to be refused there.

Of all else PostgreSQL finds the type out, as it does for a literal.
"""


def placeholder(name: str, number: int) -> str:
    return f"${number}{CASTS.get(name, '')}"


async def call(executor: Executor, function: str, *positional: object, **named: object) -> list[Row]:
    """Call a function with these values, the named ones by name."""
    arguments = [f"${number}" for number in range(1, len(positional) + 1)]
    arguments += [
        f"{name} => {placeholder(name, number)}" for number, name in enumerate(named, len(positional) + 1)
    ]
    return await rows_of(executor, f"{function}({', '.join(arguments)})", *positional, *named.values())


async def rows_of(executor: Executor, called: str, *values: object) -> list[Row]:
    rows = await executor.fetch(
        f"""
        select {COLUMNS}
        from graphile_worker.{called} with ordinality
        order by ordinality
        """,
        *values,
    )
    return [dict(row) for row in rows]


async def add_job(executor: Executor, identifier: str | None = "a", **options: object) -> Row:
    [row] = await call(executor, "add_job", identifier, **options)
    return row


SPEC = ("identifier", "payload", "queue_name", "run_at", "max_attempts", "job_key", "priority", "flags")

Spec = dict[str, object]
"""The fields of a job_spec; those left out are null."""


def spec(identifier: str | None = "a", **options: object) -> Spec:
    assert options.keys() <= set(SPEC)
    return {"identifier": identifier, **options}


async def add_jobs(executor: Executor, *specs: Spec | None, preserve: bool | None = False) -> list[Row]:
    """Call add_jobs; None is a spec that is null itself."""
    values: list[object] = [preserve]
    written = []
    for each in specs:
        if each is None:
            written.append("null")
            continue
        first = len(values) + 1
        written.append(f"row({', '.join(placeholder(name, n) for n, name in enumerate(SPEC, first))})")
        values += [each.get(name) for name in SPEC]
    array = f"array[{', '.join(written)}]::graphile_worker.job_spec[]"
    return await rows_of(executor, f"add_jobs({array}, $1)", *values)


async def jobs(database: Database) -> list[Row]:
    rows = await database.fetch(f"select {COLUMNS} from graphile_worker._private_jobs order by id")
    return [dict(row) for row in rows]
