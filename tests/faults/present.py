"""A worker for which a lock stands: to be suspended, cut off or killed. Its jobs take as long as they say.

With `--indirect` the lock counts even where a proxy is between the worker and the server.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from tests.faults.program import say, serve
from trio_graphile import (
    JobContext,
    PresenceOptions,
    RecoveryOptions,
    ShutdownOptions,
    TaskRegistry,
    WorkerOptions,
)

tasks = TaskRegistry()


@tasks.task("lasting")
async def lasting(duration: float, context: JobContext) -> None:
    say("started", context)
    try:
        await trio.sleep(duration)
    except trio.Cancelled:
        say("cancelled", context)
        raise
    say("returned", context)


async def main(url: str, *, indirect: bool) -> None:
    options = WorkerOptions(
        concurrency=3,
        recovery=RecoveryOptions(presence=PresenceOptions(indirect=indirect)),
        shutdown=ShutdownOptions(grace_period=0.5),
    )
    await serve(url, tasks, options)


if __name__ == "__main__":
    url, *flags = sys.argv[1:]
    trio.run(partial(main, url, indirect="--indirect" in flags))
