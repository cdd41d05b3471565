"""Peers are installed once, in a folder that is kept, with what their language has for it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

_SHOWN = 2_000  # characters of what a failed installation said


class Unavailable(Exception):
    """A peer cannot run here, and why."""


def default_cache() -> Path:
    """Return a folder among this user's caches, or a temporary one for who has no home."""
    told = os.environ.get("XDG_CACHE_HOME")
    try:
        caches = Path(told) if told else Path.home() / ".cache"
    except RuntimeError:
        caches = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
    return caches / "trio_graphile" / "benchmarks"


def version_of(file: Path, pattern: str) -> str:
    """Return the version that a peer's file asks for: what the group in the pattern finds."""
    match = re.search(pattern, file.read_text())
    assert match is not None, f"{file} names no version"
    return match[1]


def npm_program(peer: Path, cache: Path) -> list[str]:
    """Return the command of `peer.mjs`, with the packages of `package.json`, and modules of all peers."""
    _need("node", "npm")

    def install(folder: Path) -> None:
        shutil.copy(peer / "package.json", folder)
        _call(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder
        )

    folder = _kept(peer, cache, install, made_from=["package.json"])
    for module in (peer / "peer.mjs", *peer.parent.glob("*.mjs")):
        shutil.copy(module, folder)  # it looks for packages beside itself
    return ["node", str(folder / "peer.mjs")]


def python_program(peer: Path, cache: Path, *, interpreter: str = sys.executable) -> list[str]:
    """Return the command of `peer.py`, in an environment of its own with what `requirements.txt` names."""

    def install(folder: Path) -> None:
        _call([interpreter, "-m", "venv", str(folder)])
        _call([str(folder / "bin/pip"), "install", "-q", "-r", str(peer / "requirements.txt")])

    folder = _kept(peer, cache, install, made_from=["requirements.txt"], made_by=sys.version)
    return [str(folder / "bin/python"), str(peer / "peer.py")]


def go_program(peer: Path, cache: Path) -> list[str]:
    """Return the program that `main.go` becomes."""
    _need("go")

    def build(folder: Path) -> None:
        _call(_gently(["go", "build", "-o", str(folder / peer.name), "."]), cwd=peer)

    return [str(_kept(peer, cache, build, made_from=["*.go", "go.*"]) / peer.name)]


def cargo_program(peer: Path, cache: Path) -> list[str]:
    """Return the program that the crate becomes, optimized."""
    _need("cargo")

    def build(folder: Path) -> None:
        target = str(folder / "target")
        _call(
            _gently(["cargo", "build", "-q", "--release", "--locked", "--target-dir", target]),
            cwd=peer,
        )
        shutil.move(folder / "target/release" / peer.name, folder / peer.name)
        shutil.rmtree(target)

    return [str(_kept(peer, cache, build, made_from=["Cargo.*", "src/**/*"]) / peer.name)]


def _kept(
    source: Path, cache: Path, install: Callable[[Path], None], *, made_from: Iterable[str], made_by: str = ""
) -> Path:
    """Return the folder of what was installed from the same files, now if need be. Raises `Unavailable`."""
    digest = hashlib.sha256(made_by.encode())
    for path in sorted(path for pattern in made_from for path in source.glob(pattern) if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    folder = cache / f"{source.name}-{digest.hexdigest()[:12]}"
    complete = folder / "complete"  # an environment cannot be moved, so no renaming
    if not complete.exists():
        print(f"Installing {source.name} in {folder}.", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        complete.touch()
    return folder


def _need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Unavailable(f"there is no {' and no '.join(missing)}")


def _gently(command: list[str]) -> list[str]:
    """A build may take minutes; somebody may be working here."""
    return ["nice", "-n", "15", *command] if shutil.which("nice") else command


def _call(command: list[str], cwd: Path | None = None) -> None:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr).strip()[-_SHOWN:]
        raise Unavailable(f"`{' '.join(command)}` failed:\n{said}")
