"""Under which conditions workers end: what they do, how they are told, and what happens to the database."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from tests.storm.fleet import Signals

Upheaval: TypeAlias = Literal["none", "frozen", "restarted", "failover"]

EVERYTHING = {
    "sleep": 1.0,
    "queued": 0.1,
    "transaction": 0.8,
    "batch": 0.8,
    "thread": 1.0,
    "cpu": 0.1,
    "shielded": 1.0,
    "stubborn": 1.0,
}
"""Handlers of ours of every kind, most of which a short grace period interrupts."""
_SHARES = {"stubborn": 0.1}
"""How often a kind is drawn beside others, if not as often as these: each worker starts processes for it."""


@attrs.frozen(kw_only=True)
class Condition:
    """One kind of weather. Durations are seconds."""

    name: str
    text: str
    """What happens, for the page."""
    kinds: Mapping[str, float]
    """The kinds of handlers, each with how long it takes on average."""
    grace: float = 1.0
    prefetch: int = 0
    upheaval: Upheaval = "none"
    pooled: bool = False
    """Whether workers come through PgBouncer."""
    second_after: float | None = None
    killed_after: float | None = None
    slack: float = 2.0
    """How much longer than promised a process may take to end, on a slow machine."""
    busy: float = 0.5
    """How large a part of the slots has something to do."""
    for_peers: bool = False

    @property
    def signals(self) -> Signals:
        return Signals(
            grace=self.grace,
            slack=self.slack,
            second_after=self.second_after,
            killed_after=self.killed_after,
        )

    def payload(self, token: int, draw: random.Random) -> dict[str, Any]:
        """Return the payload of a job: from half as long as on average to half as long again."""
        kinds = sorted(self.kinds)
        [kind] = draw.choices(kinds, [_SHARES.get(kind, 1.0) for kind in kinds])
        return {"token": token, "kind": kind, "seconds": round(self.kinds[kind] * draw.uniform(0.5, 1.5), 3)}


CONDITIONS = (
    Condition(
        name="finishing",
        text="handlers take 0.3 s and have 3 s to finish",
        kinds={"sleep": 0.3},
        grace=3.0,
        for_peers=True,
    ),
    Condition(
        name="interrupted",
        text="handlers take 5 s and have 1 s; they can be cancelled",
        kinds={"sleep": 5.0},
        for_peers=True,
    ),
    Condition(
        name="stubborn",
        text="handlers take 8 s, have 1 s, and ignore that they are cancelled",
        kinds={"stubborn": 8.0},
        busy=0.3,
        for_peers=True,
    ),
    Condition(
        name="blocking",
        text="handlers block the event loop, or their thread, for 0.5 s; others beside them take 5 s",
        kinds={"cpu": 0.5, "sleep": 5.0},
        for_peers=True,
    ),
    Condition(
        name="frozen",
        text="every process of the database stands still for 1.5 s, again and again; handlers take 3 s",
        kinds={"sleep": 3.0},
        upheaval="frozen",
        for_peers=True,
    ),
    Condition(
        name="restarted",
        text="the database is restarted again and again; handlers take 3 s",
        kinds={"sleep": 3.0},
        upheaval="restarted",
        for_peers=True,
    ),
    Condition(
        name="killed",
        text="SIGKILL comes at the end of the grace period; handlers take 5 s",
        kinds={"sleep": 5.0},
        killed_after=1.0,
        for_peers=True,
    ),
    Condition(
        name="shielded",
        text="handlers shield themselves for 1.5 s beyond the grace period",
        kinds={"shielded": 2.0},
        grace=0.5,
    ),
    Condition(name="threads", text="handlers in threads, which ask whether to stop", kinds={"thread": 5.0}),
    Condition(
        name="deaf threads", text="handlers in threads, which do not ask whether to stop", kinds={"deaf": 5.0}
    ),
    Condition(
        name="transactions", text="handlers complete their jobs in a transaction", kinds={"transaction": 2.0}
    ),
    Condition(name="batches", text="jobs are batches of three items", kinds={"batch": 3.0}),
    Condition(
        name="prefetch",
        text="each worker holds up to 20 jobs beyond its slots",
        kinds={"sleep": 0.5},
        prefetch=20,
        busy=1.5,
        grace=0.3,
    ),
    Condition(
        name="queues", text="half of the jobs is in eight named queues", kinds={"queued": 0.3, "sleep": 2.0}
    ),
    Condition(
        name="second signal",
        text="SIGTERM comes twice, 0.2 s apart",
        kinds={"sleep": 5.0},
        second_after=0.2,
        grace=10.0,
    ),
    Condition(
        name="pgbouncer",
        text="everything, through PgBouncer in transaction mode",
        kinds=EVERYTHING,
        grace=0.3,
        pooled=True,
        prefetch=5,
    ),
    Condition(
        name="failover",
        text="a standby takes over, again and again; everything at once",
        kinds=EVERYTHING,
        grace=0.3,
        upheaval="failover",
    ),
    Condition(
        name="everything",
        text="handlers of all kinds, with prefetch",
        kinds=EVERYTHING,
        grace=0.3,
        prefetch=5,
    ),
    Condition(
        name="everything, frozen",
        text="the same, and the database stands still",
        kinds=EVERYTHING,
        grace=0.3,
        prefetch=5,
        upheaval="frozen",
    ),
    Condition(
        name="everything, restarted",
        text="the same, and the database is restarted",
        kinds=EVERYTHING,
        grace=0.3,
        prefetch=5,
        upheaval="restarted",
    ),
)
