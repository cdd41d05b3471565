"""A worker's process and its supervisor: what they tell each other, and how one notices the other's end.

The supervisor holds the only writing end of the worker's standard input and never writes to it: when it ends,
however it does, the worker's input ends, and the worker stops. The other way goes a pipe with lines of JSON.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import attrs
import trio
from cattrs.preconf.orjson import make_converter

from trio_graphile._worker.worker import Worker

_converter = make_converter()


@attrs.frozen(kw_only=True)
class Word:
    """What a worker says to its supervisor."""

    worker_id: str
    ready: bool = False
    """Whether it takes jobs."""


def read_words(text: bytes) -> Iterator[Word]:
    """Yield what is said in whole lines."""
    for line in text.splitlines():
        yield _converter.loads(line, Word)


@attrs.frozen
class Supervisor:
    """The supervisor, as a worker's process sees it."""

    _pipe: int
    """The file descriptor to write to."""

    def say(self, word: Word) -> None:
        """Tell the supervisor, if it is still there and listens."""
        try:
            os.write(self._pipe, _converter.dumps(word) + b"\n")  # short enough to be written at once or not
        except OSError:
            return  # it is gone: `stop_when_alone` sees to that

    async def stop_when_alone(self, worker: Worker) -> None:
        """Stop the worker when the supervisor has ended. To be cancelled when the worker has."""
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            if not os.read(sys.stdin.fileno(), 1024):
                break
        worker.stop()
