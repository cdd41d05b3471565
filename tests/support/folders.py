"""Folders that others may enter: without user namespaces, a server of root's runs as somebody else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def let_others_in(folder: Path) -> None:
    """Let everybody reach a folder of pytest's."""
    top = Path(tempfile.gettempdir())
    for each in (folder, *folder.parents):
        if each == top or not each.is_relative_to(top):
            return
        each.chmod(0o755)


@contextmanager
def passable_folder(within: str | Path | None) -> Iterator[Path]:
    """Make a temporary folder that everybody may pass through."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=within) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)
