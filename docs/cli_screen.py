"""Runs the program in a terminal, on a server of its own, and draws what it shows: docs/cli.svg.

python docs/cli_screen.py
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import trio
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.cli.terminal import terminal  # noqa: E402  # found by the line above
from trio_graphile import Client, JobSpec, open_database  # noqa: E402
from trio_graphile.embedded import embedded_postgres  # noqa: E402

WIDTH = 112
TASKS = """
import trio
from trio_graphile import TaskRegistry

tasks = TaskRegistry()

@tasks.task("send_welcome")
async def send_welcome(to: str) -> None:
    await trio.sleep(0.05)

@tasks.task("resize")
async def resize(path: str) -> None:
    raise ValueError("no such image")
"""
RUN = ("run", "jobs:tasks", "--processes", "2", "--concurrency", "8", "--local-queue.size", "16")
BUSY = "16/16"
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""They would be fetched from a server of somebody else's."""


async def add_jobs(url: str) -> None:
    async with open_database(url) as database:
        client = Client(database)
        await client.migrate()
        await client.add_raw_job(
            "resize", "a.png", JobSpec(queue_name="images", job_key="a.png", priority=-1)
        )
        await client.permanently_fail_jobs([(await client.add_raw_job("resize", "b.png")).id], "disk full")
        await client.add_raw_jobs([("send_welcome", f"{number}@example.org") for number in range(8000)])


async def capture(folder: Path, environment: dict[str, str]) -> list[tuple[str, str]]:
    """Return what was typed, and what came of it."""
    shown = []
    for arguments in (("list", "--limit", "4"), ("stats",)):
        async with terminal(folder, environment, *arguments, columns=WIDTH) as screen:
            await screen.wait_ended()
        shown.append((" ".join(arguments), screen.written))
    async with terminal(folder, environment, *RUN, columns=WIDTH) as screen:
        await screen.wait_until(lambda written: written.count(BUSY) > 8)
        frame = next(frame for frame in reversed(screen.frames) if BUSY in frame)
        screen.press("\x03")
        await screen.wait_ended()
    shown.append((" ".join(RUN), frame))
    return shown


def draw(shown: list[tuple[str, str]]) -> str:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: PTH123, SIM115  # it is for nobody
    for typed, written in shown:
        console.print(Text(f"$ trio-graphile {typed}", style="bold"))
        console.print(Text.from_ansi(written.replace("\r\n", "\n").strip("\n")))
        console.print()
    svg = console.export_svg(title="trio-graphile", theme=MONOKAI, unique_id="cli")
    return "\n".join(line.rstrip() for line in FONTS.sub("", svg).splitlines()) + "\n"


async def main() -> None:
    async with embedded_postgres() as server:
        await add_jobs(server.url)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "jobs.py").write_text(TASKS)  # noqa: ASYNC240  # nobody else waits
            environment = {**os.environ, "DATABASE_URL": server.url, "PYTHONPATH": str(ROOT)}
            shown = await capture(Path(folder), environment)
    Path(__file__).with_name("cli.svg").write_text(draw(shown))  # noqa: ASYNC240  # as above


if __name__ == "__main__":
    trio.run(main)
