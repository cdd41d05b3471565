"""What the storm tells a program of ours, and the beats of handlers that may end without a word."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Settings:
    """The variables of the contract, and those of our own."""

    database_url: str
    direct_url: str | None
    """Past the pooler, if there is one."""
    marks_url: str
    worker: str
    concurrency: int
    grace: float
    prefetch: int
    prestart: bool
    """Whether handlers in processes are to be expected."""

    @classmethod
    def of_environment(cls) -> Settings:
        told = os.environ
        return cls(
            database_url=told["STORM_DATABASE_URL"],
            direct_url=told.get("STORM_DIRECT_URL"),
            marks_url=told["STORM_MARKS_URL"],
            worker=told["STORM_WORKER"],
            concurrency=int(told["STORM_CONCURRENCY"]),
            grace=float(told["STORM_GRACE"]),
            prefetch=int(told.get("STORM_PREFETCH", "0")),
            prestart="STORM_PRESTART" in told,
        )


@attrs.frozen(kw_only=True)
class Work:
    """The payload of every job."""

    token: int
    kind: str
    seconds: float


@attrs.frozen
class Pulse:
    """Leaves the time in a file: the last thing that is known of a handler that is killed, or abandoned."""

    _file: int

    @classmethod
    @contextlib.contextmanager
    def of(cls, token: int, worker: str) -> Iterator[Pulse]:
        """Have one for a run."""
        file = os.open(Path(os.environ["STORM_BEATS"], f"{token} {worker}"), os.O_CREAT | os.O_WRONLY)
        try:
            yield cls(file)
        finally:
            os.close(file)

    def beat_for(self, seconds: float) -> None:
        """Block for so many seconds, and say all the time that we live."""
        for _ in range(int(seconds * 100)):
            os.pwrite(self._file, f"{time.time():.6f}".encode(), 0)
            time.sleep(0.01)


def read_beats(folder: Path) -> dict[tuple[int, str], float]:
    """Return the last beat of each token's run, by token and worker, in seconds since 1970."""
    beats = {}
    for path in folder.iterdir():
        token, _, worker = path.name.partition(" ")
        if text := path.read_text():
            beats[int(token), worker] = float(text)
    return beats
