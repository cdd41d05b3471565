"""How Graphile Worker takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import npm_program, version_of
from tests.storm.adapters import Contender
from tests.storm.peers.graphile_schema import LOCKS, STATES

_PEERS = Path(__file__).parents[1]


def contender(cache: Path) -> Contender:
    version = version_of("graphile_worker", "package.json", r'"graphile-worker": "(.+?)"', peers=_PEERS)
    command = npm_program("graphile_worker", cache / "storm", peers=_PEERS)
    return Contender(
        project=f"Graphile Worker {version} (Node)",
        settings="stop(), gracefulShutdownAbortTimeout, pgPool, forcefulShutdown() a second later",
        setup=[*command, "setup"],
        worker=[*command, "worker"],
        add=[*command, "add"],
        states=STATES,
        locks=LOCKS,
        exits_within=2.0,
        recovers_after=4 * 3600.0,
        remarks=(
            "A handler that heeds the abort signal fails: this is an attempt, and a delay before the next.",
            "Its stop ends before the last outcomes are written; ours waits for the pool to be idle.",
            "The four hours after which jobs of a killed worker run again cannot be changed without Pro.",
        ),
    )
