"""The npm package graphile-worker: installed once for all runs, driven by small programs of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import attrs
import trio

from tests.interop.programs import Printed, listening_program, run_program
from tests.npm import installed

VERSIONS = ("0.17.3", "0.18.0")
PROGRAMS = Path(__file__).parent / "node"
_OLDEST_NODE = 20


@attrs.frozen
class GraphileWorker:
    """One version of the package, beside programs that use it."""

    version: str
    folder: Path
    """Holds the programs, and `node_modules`."""

    async def run(self, url: str, name: str, *arguments: object) -> Printed:
        """Run a program to its end. Raises `CalledProcessError`, with what it printed as a note."""
        return await run_program(url, self.command(name, *arguments), self.folder)

    async def run_cli(self, url: str, *flags: str) -> Printed:
        """Run the package's own command to its end. Raises as `run` does."""
        return await run_program(
            url, [str(self.folder / "node_modules/.bin/graphile-worker"), *flags], self.folder
        )

    def worker(self, url: str, **options: object) -> AbstractAsyncContextManager[trio.Process]:
        """Have a worker that listens, for the length of the block; afterwards it is stopped gracefully."""
        return listening_program(url, self.command("worker.mjs", options), self.folder)

    def command(self, name: str, *arguments: object) -> list[str]:
        """The command of a program; each argument goes as JSON."""
        return ["node", str(self.folder / name), *map(json.dumps, arguments)]


def reason_to_skip() -> str | None:
    """Say why the package cannot run here; None if it can."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not installed"
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < _OLDEST_NODE:
        return f"node is {version}: {_OLDEST_NODE} or later is needed"
    return None


@contextmanager
def programs_for(version: str, programs: Path = PROGRAMS) -> Iterator[GraphileWorker]:
    """Lend copies of the programs, which find this version of the package beside them."""
    package = installed("graphile-worker", version)
    with tempfile.TemporaryDirectory(prefix="graphile-worker-") as temporary:
        folder = Path(temporary)
        (folder / "node_modules").symlink_to(package / "node_modules")
        for program in programs.glob("*.mjs"):
            shutil.copy(program, folder)
        yield GraphileWorker(version, folder)
