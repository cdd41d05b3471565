"""How Graphile Worker takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import npm_program, version_of
from tests.storm.adapters import Contender
from tests.storm.peers.graphile_schema import LOCKS, STATES

_HERE = Path(__file__).parent


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "package.json", r'"graphile-worker": "(.+?)"')
    return Contender(
        project=f"Graphile Worker {version} (Node)",
        settings="stop(), gracefulShutdownAbortTimeout, pgPool, forcefulShutdown() a second later",
        command=npm_program(_HERE, cache),
        states=STATES,
        locks=LOCKS,
        recovers_after=4 * 3600.0,
        remarks=(
            "A handler that heeds the abort signal fails: this is an attempt, and a delay before the next.",
            "Its stop ends before the last outcomes are written; ours waits for the pool to be idle.",
            "The four hours after which jobs of a killed worker run again cannot be changed without Pro.",
        ),
    )
