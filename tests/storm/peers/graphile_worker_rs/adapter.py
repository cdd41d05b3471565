"""How Graphile Worker RS takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import cargo_program, version_of
from tests.storm.adapters import Contender
from tests.storm.peers.graphile_schema import LOCKS, STATES

_PEERS = Path(__file__).parents[1]


def contender(cache: Path) -> Contender:
    version = version_of(
        "graphile_worker_rs", "Cargo.toml", r'graphile_worker = \{ version = "=(.+?)"', peers=_PEERS
    )
    command = cargo_program("graphile_worker_rs", cache / "storm", peers=_PEERS)
    return Contender(
        project=f"Graphile Worker RS {version} (Rust)",
        settings="shutdown_grace_period; shutdown_interrupted_job_retry_delay: 0; worker_recovery",
        setup=[*command, "setup"],
        worker=[*command, "worker"],
        add=[*command, "add"],
        states=STATES,
        locks=LOCKS,
        recovers_after=390.0,
        remarks=(
            "A future cannot refuse to be dropped: no handler that awaits is stubborn.",
            "By default, what a stop interrupts is due after 30 s only.",
        ),
    )
