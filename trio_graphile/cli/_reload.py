"""`run --reload`: notices that files have changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import trio

_INTERVAL = 0.5
_SUFFIXES = frozenset({".py", ".toml", ".cron"})
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})

Snapshot: TypeAlias = Mapping[Path, tuple[int, int]]
"""The time of the last change of each file, in nanoseconds, and its size."""


def take_snapshot(folder: Path, others: tuple[Path, ...] = ()) -> Snapshot:
    """Return a snapshot of files, and of the sources below a folder but hidden and installed ones."""
    snapshot = {}
    for path in (*_sources(folder), *others):
        with contextlib.suppress(OSError):  # deleted meanwhile, which is a change
            found = path.stat()
            snapshot[path] = (found.st_mtime_ns, found.st_size)
    return snapshot


def _sources(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
        yield from (path for path in map(Path(root).joinpath, files) if path.suffix in _SUFFIXES)


async def wait_for_change(folder: Path, others: tuple[Path, ...] = ()) -> None:
    """Return when a file was changed, added or deleted; looks twice a second."""
    look = partial(trio.to_thread.run_sync, take_snapshot, folder, others)
    before = await look()
    while await look() == before:  # noqa: ASYNC110  # no event for this exists on every system
        await trio.sleep(_INTERVAL)
