"""The tasks of these tests, and what they are given."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs

from trio_graphile import JobSpec, TaskRegistry

tasks = TaskRegistry()


@attrs.frozen(kw_only=True)
class Welcome:
    to: str
    locale: str = "en"


@tasks.task("send_welcome")
async def send_welcome(payload: Welcome) -> None: ...


@tasks.task("tick")
async def tick() -> None: ...


@tasks.task("index")
async def index(payload: list[int]) -> None: ...


ADA = Welcome(to="ada@example.org")
SOON = datetime(2100, 1, 1, tzinfo=UTC)
LATER = datetime(2200, 1, 1, tzinfo=UTC)
KEYED = JobSpec(job_key="k")
