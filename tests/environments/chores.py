"""Tasks for programs in bad surroundings: copied into their folders."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import trio

from trio_graphile import JobContext, TaskRegistry

tasks = TaskRegistry()


@tasks.task("quick")
async def quick(number: int) -> None:
    say(f"quick {number} ran")


@tasks.task("silent")
async def silent() -> None: ...


@tasks.task("failing")
async def failing() -> None:
    raise RuntimeError("to the log")


@tasks.task("endless")
async def endless() -> None:
    say("endless runs")
    await trio.sleep_forever()


@tasks.task("stubborn")
async def stubborn(context: JobContext) -> None:
    """Blocks the event loop until the worker is told to stop, and longer than that."""
    say("stubborn runs")
    await context.stopping.wait()
    time.sleep(1.0)  # noqa: ASYNC251  # as code does that knows nothing of Trio


@tasks.task("elsewhere", lane="process")
def elsewhere() -> None:
    """Never ends, in a process that has started another."""
    child = subprocess.Popen(["sleep", "600"])
    say(f"elsewhere runs in {os.getpid()} with {child.pid}")
    time.sleep(600)


@tasks.task("glutton", lane="process")
def glutton(group: str) -> None:
    """Needs more memory than its group may have, the first time."""
    if Path("fed").exists():
        return
    Path("fed").touch()
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
    say(f"eaten {len(bytearray(os.urandom(1) * (256 << 20)))}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
