"""Handlers of ours that run in processes, and heed nothing: the worker kills them."""

from __future__ import annotations

import asyncio  # noqa: TID251  # a process of the lane has no Trio
import functools
import os
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from tests.storm.marks import ADD_MARK
from tests.storm.ours_settings import Pulse, Settings, Work
from trio_graphile import TaskRegistry, current_job

in_process = TaskRegistry()


@functools.cache
def _session() -> tuple[asyncio.AbstractEventLoop, Any]:
    """Return the referee's session of this process."""
    loop = asyncio.new_event_loop()
    return loop, loop.run_until_complete(asyncpg.connect(Settings.of_environment().marks_url, timeout=30))


def _mark(what: str, token: int) -> None:
    loop, connection = _session()
    job = current_job()
    assert job is not None
    values = token, what, job.attempts, Settings.of_environment().worker, os.getpid()
    loop.run_until_complete(connection.execute(ADD_MARK, *values))


@in_process.task("stubborn", lane="process")
def stubborn(payload: Work) -> None:
    _mark("started", payload.token)
    with Pulse.of(payload.token, Settings.of_environment().worker) as pulse:
        pulse.beat_for(payload.seconds)
    _mark("finished", payload.token)
