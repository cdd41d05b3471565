"""A worker in a program that does nothing about Ctrl-C. It runs the jobs of `program.py`, and says so."""

from __future__ import annotations

import os
import sys

import trio

from tests.faults.program import OPTIONS, brief
from trio_graphile import TaskRegistry, Worker, open_database


async def main(url: str) -> None:
    tasks = TaskRegistry()
    tasks.task("brief")(brief)
    async with open_database(url) as database, trio.open_nursery() as nursery:
        worker = Worker(database, tasks, OPTIONS)
        await nursery.start(worker.run)
        os.write(1, f"ready {worker.worker_id}\n".encode())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
