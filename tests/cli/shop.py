"""Tasks for the program to run: copied into its folder."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import trio

from trio_graphile import JobContext, TaskRegistry

tasks = TaskRegistry()
no_tasks = TaskRegistry()


@tasks.task("greet")
async def greet(name: str) -> None:
    say(f"greeted {name}")


@tasks.task("fail")
async def fail() -> None:
    raise RuntimeError("as it should")


@tasks.task("obey")
async def obey(context: JobContext) -> None:
    say("obey runs")
    await context.stopping.wait()
    say("obey ends")


@tasks.task("resist")
async def resist(context: JobContext) -> None:
    say("resist runs")
    await context.stopping.wait()
    say("resist goes on")
    await trio.sleep_forever()


@tasks.task("block")
async def block() -> None:
    say(f"block runs in {os.getpid()}")
    time.sleep(600)  # noqa: ASYNC251  # that is what is wrong with it


@tasks.task("wait")
async def wait(name: str, context: JobContext) -> None:
    say(f"{name} runs in {os.getpid()}, attempt {context.attempt}")
    while not Path("go").exists():  # noqa: ASYNC110, ASYNC240  # told from another process, in an instant
        await trio.sleep(0.01)
    say(f"{name} ends")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
