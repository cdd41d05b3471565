"""Stop signals, for programs: the library installs no handler by itself."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Protocol

import trio


class Stoppable(Protocol):
    """A worker, or a program that has one."""

    def stop(self) -> None: ...
    def cancel(self) -> None: ...
    async def wait_ended(self) -> None: ...


def stop_signals() -> Sequence[signal.Signals]:
    """Return the signals that stop a program.

    SIGHUP and SIGINT are not among them if they are ignored already: `nohup`, and shells that start a program
    in the background, ignore them so that the program goes on. SIGTERM always is.
    """
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    return [signal.SIGTERM, *(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)]


async def stop_on_signals(
    worker: Stoppable, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Stop the worker at the first SIGINT, SIGTERM or SIGHUP, and cancel it at the second.

    A third signal has the effect that it had before.
    A SIGINT or SIGHUP that is ignored when this starts, as after `nohup`, stays ignored. Returns when the
    worker has ended or was cancelled; the handlers found before are in place again then.
    """
    with trio.open_signal_receiver(*stop_signals()) as received:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                await anext(received)
                worker.stop()
                await anext(received)
                worker.cancel()
                nursery.cancel_scope.cancel()

            nursery.start_soon(obey)
            task_status.started()
            await worker.wait_ended()
            nursery.cancel_scope.cancel()
