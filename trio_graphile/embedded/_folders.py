"""The folders of a server: one process at a time owns one, and temporary ones end with their process."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trio_graphile._exceptions import EmbeddedPostgresError

_PREFIX = "trio-graphile-"


@contextmanager
def kept_folder(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Own a folder that stays; make it if it is missing."""
    home = Path(directory).absolute()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(home):
        yield home


@contextmanager
def temporary_folder(parent: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Own a new folder and remove it at the end. First remove those of processes that were killed."""
    place = Path(tempfile.gettempdir() if parent is None else parent).absolute()
    _sweep(place)
    home = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    with _locked(home):
        try:
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    # The kernel releases the lock when we die. A process id in a file would stay, and ids are reused, and
    # differ in containers that share the folder.
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise EmbeddedPostgresError(f"{home} is in use by another embedded server") from error
        yield
    finally:
        os.close(descriptor)


def _sweep(parent: Path) -> None:
    for left in parent.glob(f"{_PREFIX}*"):
        # An empty folder may be new and not locked yet. We cannot remove folders of another user.
        with suppress(OSError, EmbeddedPostgresError):
            if any(left.iterdir()):
                with _locked(left):
                    shutil.rmtree(left, ignore_errors=True)
