"""The duties of process 1 of a container to the other processes.

The kernel ignores signals to process 1 that it does not handle, so a SIGTERM that comes while the program is
being imported or waits for its server would have no effect. Orphans become its children: it has to wait for
them, or they stay zombies. But process 1 cannot know whether a child is an orphan, or one that a handler or a
library will wait for. So it does nothing else: it starts the program in another process, and passes signals
on.
"""

from __future__ import annotations

import os
import signal

_PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_BY_THE_KERNEL = 0x80
"""The `si_code` of a signal from the terminal, which sends it to all processes in the foreground."""


def go_on_below_init() -> None:
    """Go on in a new process, which this one watches, and whose exit code it takes. It has no threads yet."""
    heard = {*_PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        received = signal.sigwaitinfo(heard)
        if received.si_signo == signal.SIGCHLD:
            status = _wait_for_all(child)
            if status is not None:
                os._exit(_exit_code(status))
        elif received.si_code != _BY_THE_KERNEL or received.si_signo not in _OF_THE_TERMINAL:
            os.kill(child, received.si_signo)


def _wait_for_all(child: int) -> int | None:
    """Wait for every process that has ended; return the status of our child if it has."""
    status = None
    while True:
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if ended == 0:
            return status
        if ended == child:
            status = how


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code  # as shells count signals
