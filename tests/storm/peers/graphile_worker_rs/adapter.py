"""How Graphile Worker RS takes part in the storm."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.install import cargo_program, version_of
from tests.storm.adapters import Contender
from tests.storm.peers.graphile_schema import LOCKS, STATES

_HERE = Path(__file__).parent


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "Cargo.toml", r'graphile_worker = \{ version = "=(.+?)"')
    return Contender(
        project=f"Graphile Worker RS {version} (Rust)",
        settings="shutdown_grace_period; shutdown_interrupted_job_retry_delay: 0; worker_recovery",
        command=cargo_program(_HERE, cache),
        states=STATES,
        locks=LOCKS,
        recovers_after=390.0,
        remarks=(
            "A future cannot refuse to be dropped: no handler that awaits is stubborn.",
            "By default, what a stop interrupts is due after 30 s only.",
        ),
    )
