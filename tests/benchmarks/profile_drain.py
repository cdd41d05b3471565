"""Where does the client's time go when a worker drains its queue? Prints a profile, by function.

`python tests/benchmarks/profile_drain.py --help`
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from pathlib import Path

import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.contenders import CONCURRENCY, fill  # noqa: E402
from tests.benchmarks.ours import Nothing, worker_options  # noqa: E402
from trio_graphile import Client, TaskRegistry, Worker, open_database  # noqa: E402
from trio_graphile.embedded import embedded_postgres  # noqa: E402


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--local-queue-size", type=int, default=0)
    parser.add_argument("--sort", choices=("tottime", "cumtime"), default="tottime")
    parser.add_argument("--lines", type=int, default=40)
    options = parser.parse_args()
    jobs: int = options.jobs
    # A server that never waits for the disk: it is the client that is looked at.
    async with embedded_postgres() as server, open_database(server.url) as database:
        await Client(database).migrate()
        tasks = TaskRegistry()

        @tasks.task("nothing")
        async def nothing(_payload: Nothing) -> None: ...

        async def drain() -> float:
            await fill(server.url, jobs)
            before = time.process_time()
            await Worker(
                database, tasks, worker_options({**vars(options), "concurrency": CONCURRENCY})
            ).run_once()
            return (time.process_time() - before) / jobs * 1e6

        print(f"unprofiled: {await drain():.1f} us of CPU per job; under the profiler:")
        with cProfile.Profile(time.process_time) as profile:  # not the time it waits
            await drain()
    pstats.Stats(profile).strip_dirs().sort_stats(options.sort).print_stats(options.lines)


trio.run(main)
