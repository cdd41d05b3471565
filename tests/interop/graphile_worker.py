"""The npm package graphile-worker: installed once for all runs, driven by small programs of ours."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import attrs
import trio

VERSIONS = ("0.17.3", "0.18.0")
PROGRAMS = Path(__file__).parent / "node"
_OLDEST_NODE = 20


@attrs.frozen
class Printed:
    """What a program said."""

    stdout: str
    stderr: str


@attrs.frozen
class GraphileWorker:
    """One version of the package, beside programs that use it."""

    version: str
    folder: Path
    """Holds the programs, and `node_modules`."""

    async def run(self, url: str, name: str, *arguments: object) -> Printed:
        """Run a program to its end. Raises `CalledProcessError`, with what it printed as a note."""
        return await self._run(url, self.command(name, *arguments))

    async def run_cli(self, url: str, *flags: str) -> Printed:
        """Run the package's own command to its end. Raises as `run` does."""
        return await self._run(url, [str(self.folder / "node_modules/.bin/graphile-worker"), *flags])

    @asynccontextmanager
    async def worker(self, url: str, **options: object) -> AsyncIterator[None]:
        """Have a worker that listens, for the length of the block; afterwards it is stopped gracefully."""
        async with trio.open_nursery() as nursery:
            run = functools.partial(
                trio.run_process,
                self.command("worker.mjs", options),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self.folder,
                env=_environment(url),
            )
            process: trio.Process = await nursery.start(run)
            assert process.stdin is not None
            assert process.stdout is not None
            await _read_until(b"listening\n", process.stdout)
            nursery.start_soon(_read_until, None, process.stdout)  # a full pipe would hold it up
            yield
            await process.stdin.aclose()

    def command(self, name: str, *arguments: object) -> list[str]:
        """The command of a program; each argument goes as JSON."""
        return ["node", str(self.folder / name), *map(json.dumps, arguments)]

    async def _run(self, url: str, command: list[str]) -> Printed:
        try:
            ended = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, cwd=self.folder, env=_environment(url)
            )
        except subprocess.CalledProcessError as error:
            error.add_note((error.stdout + error.stderr).decode())
            raise
        return Printed(ended.stdout.decode(), ended.stderr.decode())


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
    installed = _install(version)
    with tempfile.TemporaryDirectory(prefix="graphile-worker-") as temporary:
        folder = Path(temporary)
        (folder / "node_modules").symlink_to(installed / "node_modules")
        for program in programs.glob("*.mjs"):
            shutil.copy(program, folder)
        yield GraphileWorker(version, folder)


def _install(version: str) -> Path:
    """Return a folder with the package in it. Of test runs that ask at the same time the first one wins."""
    cache = _cache_folder()
    folder = cache / f"graphile-worker-{version}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(prefix="installing-", dir=cache) as temporary:
        fresh = Path(temporary) / "package"
        fresh.mkdir()
        manifest = {"private": True, "dependencies": {"graphile-worker": version}}
        (fresh / "package.json").write_text(json.dumps(manifest))
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        npm = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
        if npm.returncode != 0:
            raise RuntimeError(f"npm could not install graphile-worker {version}:\n{npm.stdout}{npm.stderr}")
        with contextlib.suppress(OSError):  # somebody else was faster
            fresh.rename(folder)
    return folder


def _cache_folder() -> Path:
    """Beside npm's own cache if we are told where that is, else a folder of this user's."""
    told = os.environ.get("npm_config_cache")  # noqa: SIM112  # npm reads it in small letters
    folder = Path(told) if told else Path(tempfile.gettempdir()) / f"graphile-worker-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _environment(url: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": url}


async def _read_until(line: bytes | None, stream: trio.abc.ReceiveStream) -> None:
    """Read up to a line (to the end if None). What was read is written out: a test that fails shows it."""
    read = b""
    async for chunk in stream:
        read += chunk
        sys.stdout.write(chunk.decode(errors="replace"))
        if line is not None and line in read:
            return
    if line is not None:
        raise RuntimeError(f"the program ended without {line!r}")
