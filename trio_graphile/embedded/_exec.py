"""A program that becomes another program, under another identity, which does not outlive its parent.

    python -I -S _exec.py [--userns | --setuid UID:GID] [--parent PID | --watch-stdin] -- PROGRAM ARGUMENT...

It replaces a `preexec_fn`, which is unsafe in a program with threads. It imports only the standard library,
and nothing imports it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from pathlib import Path

NAMESPACE_REFUSED = 97  # an exit code, as the next two are
PARENT_GONE = 98  # an exit code that PostgreSQL's programs do not use
NOT_EXECUTABLE = 126  # as in a shell

CLONE_NEWUSER = 0x10000000  # from sched.h
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
INSIDE_ID = 1000  # any number but 0


def enter_user_namespace() -> None:
    """Leave root in name only: the files of our user remain ours, whatever folder they are in."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)  # os.unshare came with Python 3.12
    if libc.unshare(CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    Path("/proc/self/setgroups").write_text("deny")  # the kernel's condition for a gid_map
    Path("/proc/self/uid_map").write_text(f"{INSIDE_ID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INSIDE_ID} {gid} 1")


def become(uid: int, gid: int) -> None:
    """Become another user for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent: int) -> None:
    """Have the kernel send SIGINT (PostgreSQL's fast shutdown) when the parent is gone, however it ended."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGINT))
    if os.getppid() != parent:
        sys.exit(PARENT_GONE)  # the parent died before we had asked the kernel


def watch_stdin() -> None:
    """Start a child that sends SIGINT to the program when stdin ends, for systems without `prctl`."""
    program = os.getpid()
    if os.fork() != 0:
        return
    for handled in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(handled, signal.SIG_IGN)
    for stream in (1, 2):
        os.close(stream)
    while os.read(0, 1):
        pass
    if os.getppid() == program:  # otherwise the program has ended, and its number may be reused
        os.kill(program, signal.SIGINT)
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Follow the options, then become the program."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--userns", action="store_true")
    parser.add_argument("--setuid", metavar="UID:GID")
    parser.add_argument("--parent", type=int)
    parser.add_argument("--watch-stdin", action="store_true")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args(arguments)
    if options.userns:
        try:
            enter_user_namespace()
        except OSError as error:
            sys.stderr.write(f"user namespace: {error}\n")
            sys.exit(NAMESPACE_REFUSED)
    if options.setuid is not None:
        uid, _, gid = options.setuid.partition(":")
        become(int(uid), int(gid))
    if options.parent is not None:
        die_with(options.parent)  # last: a change of identity makes the kernel forget it
    # A shell starts background jobs with SIGINT ignored, and the program would inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if options.watch_stdin:
        watch_stdin()
    try:
        os.execv(options.program[0], options.program)  # noqa: S606 (that is the point)
    except OSError as error:
        sys.stderr.write(f"{options.program[0]}: {error}\n")
        sys.exit(NOT_EXECUTABLE)


if __name__ == "__main__":
    main(sys.argv[1:])
