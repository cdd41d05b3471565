"""The program `trio-graphile`. Each command is a module, which is imported when it is called."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from trio_graphile.cli._init import go_on_below_init
from trio_graphile.cli._streams import decoded_arguments, open_standard_streams, write_what_cannot_be_encoded

_INTERRUPTED = 130  # as shells count: 128 and the number of SIGINT


def main() -> NoReturn:
    """Run the program with the arguments of this process, and exit: 0, 1 for a failure, 2 for wrong usage."""
    open_standard_streams()
    if os.getpid() == 1:
        go_on_below_init()
    write_what_cannot_be_encoded()
    try:
        sys.exit(_exit_code())
    except KeyboardInterrupt:  # before a command was running
        sys.stderr.write("trio-graphile: interrupted\n")
        sys.exit(_INTERRUPTED)


def _exit_code() -> int:  # not `_run`, which is the name of a module here
    try:
        from trio_graphile.cli._program import run_program
    except ModuleNotFoundError as error:
        if error.name != "cyclopts":
            raise
        sys.exit('trio-graphile: the command line is an extra: pip install "trio-graphile[cli]"')
    return run_program(decoded_arguments(sys.argv[1:]))
