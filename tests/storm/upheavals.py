"""What is done to the servers of the queue while workers are ended."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import trio

from tests.environments.replicas import Pair, become_standby_of
from tests.storm.conditions import Upheaval
from trio_graphile.embedded import PostgresServer

_FROZEN = 1.5
"""How long a server stands still, in seconds: less than a worker may take to write its last outcomes."""
_BETWEEN = 3.0
"""How long the servers are left in peace."""
_PATIENCE = 60.0


async def disturb(servers: PostgresServer | Pair, upheaval: Upheaval) -> None:
    """Do it again and again, until cancelled; then the servers are as before."""
    while True:
        await trio.sleep(_BETWEEN)
        if isinstance(servers, Pair):
            with trio.move_on_after(_PATIENCE, shield=True):
                servers = await _switch_over(servers)
        elif upheaval == "frozen":
            await _freeze(servers)
        elif upheaval == "restarted":
            with trio.move_on_after(_PATIENCE, shield=True):
                await servers.restart()


async def _switch_over(pair: Pair) -> Pair:
    """Have the standby take over, and the other one follow it."""
    await pair.primary.stop()  # which sends all that it has written
    await pair.promote()
    await become_standby_of(pair.primary, pair.standby)
    changed = Pair(pair.standby, pair.primary)
    await changed.wait_replicating(synchronous=False)
    return changed


async def _freeze(server: PostgresServer) -> None:
    """Have all processes of a server stand still for a while."""
    assert server.process_id is not None
    stopped = [server.process_id]
    os.kill(server.process_id, signal.SIGSTOP)  # it begins no others now
    try:
        for process in _children_of(server.process_id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGSTOP)
                stopped.append(process)
        await trio.sleep(_FROZEN)
    finally:
        for process in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _children_of(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # What follows the name, which may hold anything: see `man proc_pid_stat`.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)
