"""What do observers and interceptors cost? None, one and ten of each, beside a worker without any.

Prints a table of the processor time of the worker's process for each job, of the round that was disturbed
least: the server's is not in it. `python tests/benchmarks/hooks.py --help`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.contenders import CONCURRENCY  # noqa: E402
from trio_graphile import (  # noqa: E402
    Client,
    Database,
    LocalQueueOptions,
    ObserverOptions,
    TaskRegistry,
    Worker,
    WorkerOptions,
    open_database,
)
from trio_graphile.embedded import embedded_postgres  # noqa: E402
from trio_graphile.hooks import Event, Hooks, JobCompleted, JobRun, WorkerStarted  # noqa: E402

tasks = TaskRegistry()


@tasks.task("nothing")
async def nothing(_payload: int) -> None: ...


def observe(_: Event) -> None: ...


async def observe_later(_: Event) -> None:
    await trio.lowlevel.checkpoint()


@contextmanager
def around(_: JobRun) -> Iterator[None]:
    yield


def another_event(hooks: Hooks) -> None:
    hooks.on(WorkerStarted, observe)


def observers(count: int) -> Callable[[Hooks], None]:
    def register(hooks: Hooks) -> None:
        for _ in range(count):
            hooks.on(JobCompleted, observe)

    return register


def async_observer(hooks: Hooks) -> None:
    hooks.on(JobCompleted, observe_later)


def everything(hooks: Hooks) -> None:
    hooks.on(Event, observe)


def interceptors(count: int) -> Callable[[Hooks], None]:
    def register(hooks: Hooks) -> None:
        for _ in range(count):
            hooks.before_job_run(lambda _: None)

    return register


def after(hooks: Hooks) -> None:
    hooks.after_job_run(lambda _: None)


def manager(hooks: Hooks) -> None:
    hooks.around_job_run(around)


def unused(_: Hooks) -> None: ...


CASES: dict[str, Callable[[Hooks], None] | None] = {
    "no plugin": None,
    "a plugin that registers nothing": unused,
    "one observer, of another event": another_event,
    "one observer": observers(1),
    "ten observers": observers(10),
    "one async observer": async_observer,
    "one observer of everything": everything,
    "one interceptor before": interceptors(1),
    "ten interceptors before": interceptors(10),
    "one interceptor after": after,
    "one context manager around": manager,
}


async def measure(database: Database, register: Callable[[Hooks], None] | None, jobs: int) -> float:
    """Return the processor time that a worker takes to drain so many jobs and to tell of them, in seconds."""
    await Client(database, tasks).add_raw_jobs([("nothing", 1)] * jobs)
    await database.execute("vacuum (analyze) graphile_worker._private_jobs")
    hooks = Hooks()
    if register is not None:
        register(hooks)
    options = WorkerOptions(
        concurrency=CONCURRENCY,
        local_queue=LocalQueueOptions(size=500),
        observers=ObserverOptions(queue_size=10 * jobs),
    )
    worker = Worker(database, tasks, options, plugins=[] if register is None else [hooks])
    before = time.process_time()
    report = await worker.run_once()
    seconds = time.process_time() - before
    if report.completed != jobs:
        raise SystemExit(f"{report}")
    return seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    measured: dict[str, list[float]] = {case: [] for case in CASES}
    # A server that never waits for the disk: it is the hooks that are looked at.
    async with embedded_postgres() as server, open_database(server.url) as database:
        await Client(database).migrate()
        for _ in range(options.rounds):
            for case, register in CASES.items():
                measured[case].append(await measure(database, register, options.jobs))
    base = min(measured["no plugin"])
    print("| with | time of a job | beside none |\n|---|--:|--:|")
    for case, seconds in measured.items():
        print(f"| {case} | {min(seconds) / options.jobs * 1e6:.1f} us | {min(seconds) / base:.2f} |")


if __name__ == "__main__":
    trio.run(main)
