"""Tasks for the program to run: copied into its folder."""

from __future__ import annotations

import sys

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


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
