"""What is done to the servers of the queue while workers are ended."""

from __future__ import annotations

import trio

from tests.environments.replicas import Pair, switch_over
from tests.storm.conditions import Upheaval
from tests.support.processes import frozen
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
                servers = await switch_over(servers)
        elif upheaval == "frozen":
            with frozen(servers):
                await trio.sleep(_FROZEN)
        elif upheaval == "restarted":
            with trio.move_on_after(_PATIENCE, shield=True):
                await servers.restart()
