"""The crate graphile_worker: a program of ours around it, built once for all runs."""

from __future__ import annotations

import json
import shutil
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import trio

from tests.interop.programs import Printed, listening_program, run_program
from tests.npm import cache_folder

SOURCES = Path(__file__).parent / "rust"
_OLDEST_CARGO = (1, 85)


@attrs.frozen
class RustWorker:
    """The program that was built."""

    program: Path

    async def run(self, url: str, name: str, *arguments: object) -> Printed:
        """Run one of its commands to its end. Raises `CalledProcessError`, with what it printed as a note."""
        return await run_program(url, self._command(name, *arguments), self.program.parent)

    def worker(self, url: str, **options: object) -> AbstractAsyncContextManager[trio.Process]:
        """Have a worker for the length of the block; afterwards it is stopped gracefully."""
        return listening_program(url, self._command("worker", options), self.program.parent)

    def _command(self, name: str, *arguments: object) -> list[str]:
        return [str(self.program), *map(json.dumps, (name, *arguments))]


def reason_to_skip() -> str | None:
    """Say why the program cannot be built here; None if it can."""
    if shutil.which("cargo") is None:
        return "cargo is not installed"
    cargo = subprocess.run(["cargo", "--version"], check=False, capture_output=True, text=True)
    if cargo.returncode != 0:
        return f"cargo does not work: {cargo.stderr.strip()}"
    version = cargo.stdout.split()[1]
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_CARGO:
        return f"cargo is {version}: {'.'.join(map(str, _OLDEST_CARGO))} or later is needed"
    return None


def built(name: str = "interop") -> RustWorker:
    """Build a program, or find it built. Of test runs that ask at the same time one builds."""
    target = cache_folder() / "graphile-worker-rs"
    command = ["cargo", "build", "--quiet", "--locked", "--target-dir", str(target)]
    cargo = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
    if cargo.returncode != 0:
        raise RuntimeError(f"cargo could not build {SOURCES}:\n{cargo.stdout}{cargo.stderr}")
    return RustWorker(target / "debug" / name)
