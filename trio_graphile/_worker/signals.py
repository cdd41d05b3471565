"""Signals, for programs: the library never installs a handler by itself."""

from __future__ import annotations

import signal

import trio

from trio_graphile._worker.worker import Worker

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


async def stop_on_signals(
    worker: Worker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Stop the worker at the first SIGINT, SIGTERM or SIGHUP, cancel it at the second; a third acts as ever.

    Returns when the worker has ended or was cancelled; the handlers found before are in place again then.
    """
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    with trio.open_signal_receiver(*numbers) as received:
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
