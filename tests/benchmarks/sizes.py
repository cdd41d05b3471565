"""How large everything is: each size an option, with a default for a coffee break and one for a verdict."""

from __future__ import annotations

import argparse
from typing import Any

import attrs

CONCURRENCY = 24
PREFETCHED = 500


def _size(default: float, full: float, description: str) -> Any:
    return attrs.field(default=default, metadata={"full": full, "help": description})


@attrs.frozen(kw_only=True)
class Sizes:
    """The sizes of the workloads. Durations are seconds."""

    drain_jobs: int = _size(20_000, 200_000, "how many jobs are drained")
    latency_adds: int = _size(100, 1_000, "how many jobs are added to an idle worker, one by one")
    add_bulk: int = _size(20_000, 100_000, "how many jobs are added by one call")
    call_jobs: int = _size(10_000, 50_000, "how many jobs are added by calls of 100 and of 1,000")
    add_singles: int = _size(100, 1_000, "how many jobs are added one by one")
    ready_jobs: int = _size(10_000, 50_000, "how many jobs are drained behind stuck ones or among a crowd")
    stuck_jobs: int = _size(20_000, 100_000, "how many jobs wait in two locked queues")
    queue_jobs: int = _size(
        4_000, 20_000, "how many jobs are spread over a tenth as many queues, and as many"
    )
    crowd_jobs: int = _size(100_000, 1_000_000, "how many jobs are not to be run now, or by us")
    held_seconds: float = _size(15.0, 60.0, "how long another session keeps its snapshot")
    processes: int = _size(4, 4, "how many processes drain together")
    idle_seconds: float = _size(10.0, 60.0, "how long there is nothing to do")
    memory_jobs: int = _size(100_000, 1_000_000, "over how many jobs a process may not grow")
    backlog_most: int = _size(100_000, 10_000_000, "the longest backlog, in steps of ten from 1,000")
    backlog_jobs: int = _size(5_000, 20_000, "how many jobs are drained from the front of each")


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Give the parser an option for each size, and one that sets them all."""
    parser.add_argument("--full", action="store_true", help="the larger sizes: hours instead of minutes")
    group = parser.add_argument_group("sizes", "the default, and that of --full")
    for field in attrs.fields(Sizes):
        default, full = field.default, field.metadata["full"]
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            type=type(default),
            metavar="N",
            help=f"{field.metadata['help']} ({default:,}; {full:,})",
        )


def chosen_sizes(options: argparse.Namespace) -> Sizes:
    """Return the sizes that were asked for."""
    values: dict[str, Any] = {}
    for field in attrs.fields(Sizes):
        told = getattr(options, field.name)
        default = field.metadata["full"] if options.full else field.default
        values[field.name] = default if told is None else told
    return Sizes(**values)
