"""Processes of the machine, as /proc shows them; a server whose processes stand still."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from trio_graphile.embedded import PostgresServer


def children_of(parent: int) -> list[int]:
    """Return the processes that one has started and that have not ended."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # What follows the name, which may hold anything: see `man proc_pid_stat`.
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    return [child for child, (state, of, *_) in stats.items() if int(of) == parent and state != "Z"]


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Have all processes of a server stand still for the length of the block."""
    assert server.process_id is not None
    stopped = [server.process_id]
    os.kill(server.process_id, signal.SIGSTOP)  # it begins no others now
    try:
        for process in children_of(server.process_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
                stopped.append(process)
        yield
    finally:
        for process in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
