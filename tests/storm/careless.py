"""A worker that SIGTERM kills, as it kills any program that does not think of it: to test the referee."""

from __future__ import annotations

from functools import partial

import trio

from tests.storm.ours_worker import main

if __name__ == "__main__":
    trio.run(partial(main, heeds_signals=False))
