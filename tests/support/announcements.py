"""What is announced on the channel of new jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_graphile import Database
from trio_graphile._database.notifications import JOBS_INSERT, announced_jobs


@asynccontextmanager
async def hearing_announcements(database: Database) -> AsyncIterator[list[int]]:
    """Yield how many jobs each announcement has that is made while the body runs; complete after it."""
    heard: list[int] = []
    async with database.connection() as connection:
        await connection.listen(JOBS_INSERT, lambda payload: heard.append(announced_jobs(payload)))
        yield heard
        await connection.execute("select")  # what was sent before arrives with the answer
