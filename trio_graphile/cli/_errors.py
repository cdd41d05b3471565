"""The messages and exit codes of the program for exceptions."""

from __future__ import annotations

import attrs
from cyclopts import CycloptsError

from trio_graphile._cron.mistakes import CrontabInvalid
from trio_graphile._exceptions import DatabaseUrlInvalid, GraphileError, OptionInvalid, SchemaTooNew
from trio_graphile._model.groups import leaves

FAILED = 1  # an exit code, as all of these are
WRONG_USAGE = 2  # as of most programs
SUPERSEDED = 57  # as Graphile Worker's own program ends then
INTERRUPTED = 130  # as shells count: 128 and the number of SIGINT

_PLACES = {"identifier": "TASK", "queue_name": "--queue", "job_key": "--key", "flags": "--flag"} | {
    "allowed_hosts": "--allowed-host",
    "trusted_proxies": "--trusted-proxy",
    "lane": "lane",  # a task's, which no flag sets
}
"""The names of fields here, where they differ."""


class UsageError(GraphileError):
    """The arguments can never be right, in whatever state the world is."""


class TasksBroken(GraphileError):
    """The module with the tasks exists, but cannot be imported."""


class Superseded(GraphileError):
    """Another program installed a revision of the schema that this version cannot work with."""


class WorkersFailed(GraphileError):
    """Not all worker processes ended well; each has said why."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"not all workers ended well (exit code {exit_code}): see above")
        self.exit_code = exit_code


@attrs.frozen
class Exit:
    """The message for the user, one line if it is about one thing, and the exit code."""

    text: str
    exit_code: int


def exit_for(error: BaseException) -> Exit | None:
    """Return the message and exit code for an exception, or the first of a group; None for our mistakes."""
    exits = [_exit_for_one(leaf) for leaf in leaves(error)]
    return None if None in exits else exits[0]


def _exit_for_one(error: BaseException) -> Exit | None:
    match error:
        case KeyboardInterrupt():
            return Exit("interrupted", INTERRUPTED)
        case CycloptsError():
            command = " ".join(["trio-graphile", *(error.command_chain or ())])
            return Exit(f"{_in_one_line(error)} See {command} --help.", WRONG_USAGE)
        case OptionInvalid():
            place = _PLACES.get(error.option, f"--{error.option.replace('_', '-')}")
            return Exit(f"{place}: {error.reason}", WRONG_USAGE)
        case CrontabInvalid():  # one mistake after the other, each below its line
            return Exit(f"the crontab has mistakes ({len(error.mistakes)}):\n{error}", FAILED)
        case Superseded() | SchemaTooNew():
            return Exit(_in_one_line(error), SUPERSEDED)
        case WorkersFailed():
            return Exit(str(error), error.exit_code)
        case UsageError() | DatabaseUrlInvalid():
            return Exit(_in_one_line(error), WRONG_USAGE)
        case GraphileError():
            return Exit(_in_one_line(error), FAILED)
        case _:
            return None


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
