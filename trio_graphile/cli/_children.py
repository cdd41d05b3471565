"""Processes that the program has started."""

from __future__ import annotations

import signal


def how_ended(exit_code: int) -> str:
    """Return in words how a process has ended. A negative exit code stands for the signal that killed it."""
    if exit_code >= 0:
        return f"ended with {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:  # most of the real-time signals have no names
        return f"was killed by signal {-exit_code}"
