"""The program `trio-graphile`. Its commands are modules of their own, imported when they are called."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the program with the arguments of this process, and exit: 0, 1 for a failure, 2 for wrong usage."""
    try:
        from trio_graphile.cli._program import run_program
    except ModuleNotFoundError as error:
        if error.name != "cyclopts":
            raise
        sys.exit('trio-graphile: the command line is an extra: pip install "trio-graphile[cli]"')
    sys.exit(run_program(sys.argv[1:]))
