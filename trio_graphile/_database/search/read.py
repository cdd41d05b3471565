"""Reads the rows of found jobs, without large payloads. A row that cannot be read holds up no other."""

from __future__ import annotations

from collections.abc import Sequence

from trio_graphile._database.connection import Executor, Row
from trio_graphile._database.halves import in_halves
from trio_graphile._database.inspection import listed_job, listing
from trio_graphile._database.search.conditions import ERROR, ERROR_IS_SMALL, IS_SHOWN
from trio_graphile._database.statement import Statement
from trio_graphile._database.unreadable import is_unreadable
from trio_graphile._exceptions import StatementFailed
from trio_graphile._model.listing import FoundJob

_SIZE = "pg_column_size(jobs.payload) as payload_size"
_THOSE = """
    where jobs.id = any($1::bigint[])
"""
READ_JOBS = Statement(
    listing(
        _SIZE,
        f"{IS_SHOWN} as has_payload",
        f"{ERROR_IS_SMALL} as has_whole_error",
        payload_json=f"case when {IS_SHOWN} then jobs.payload::text else 'null' end",
        last_error=ERROR,
    )
    + _THOSE
)  # $1 job ids


def _escaped(column: str) -> str:
    return f"encode(convert_to({column}, getdatabaseencoding()), 'escape')"


READ_ESCAPED = Statement(
    listing(
        _SIZE,
        "false as has_payload",
        f"{ERROR_IS_SMALL} as has_whole_error",
        task=f"coalesce({_escaped('tasks.identifier')}, '')",
        payload_json="'null'",
        queue_name=_escaped("queues.queue_name"),
        last_error=_escaped(f"({ERROR})"),
        key=_escaped("jobs.key"),
        flags="null::text",
        locked_by=_escaped("jobs.locked_by"),
    )
    + _THOSE
)  # as above, for those that are not UTF-8: bytes beyond ASCII as numbers, and without payload and flags


async def read_jobs(executor: Executor, ids: Sequence[int]) -> dict[int, FoundJob]:
    """Return the jobs with these ids, by id, without those that are gone."""

    async def read(part: Sequence[int]) -> list[Row]:
        return await executor.fetch(READ_JOBS, part)

    rows: list[Row]
    refused: list[tuple[int, StatementFailed]]
    try:
        rows, refused = await read(ids), []
    except StatementFailed as error:
        if not is_unreadable(error):
            raise  # after a timeout, halves would take as long
        rows, refused = await in_halves(read, ids)
    for _, refusal in refused:
        if not is_unreadable(refusal):
            raise refusal
    if refused:
        rows += await executor.fetch(READ_ESCAPED, [id_ for id_, _ in refused])
    return {row["id"]: _found_job(row) for row in rows}


def _found_job(row: Row) -> FoundJob:
    return FoundJob(
        listed=listed_job(row),
        payload_size=row["payload_size"],
        has_payload=row["has_payload"],
        has_whole_error=row["has_whole_error"],
    )
