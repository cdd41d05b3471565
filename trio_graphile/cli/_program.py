"""The commands of the program, and how it ends."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence
from typing import Literal

from cyclopts import App, CycloptsError, Group, Parameter

from trio_graphile._exceptions import GraphileError
from trio_graphile._model.version import installed_version
from trio_graphile.cli._errors import FAILED, exit_for
from trio_graphile.cli._streams import harmless

logger = logging.getLogger("trio_graphile.cli")


def _version() -> str:
    return installed_version() or "not installed: run from its sources"


program = App(
    name="trio-graphile",
    help="A durable job queue on PostgreSQL: set it up, run its jobs.",
    version=_version,
    backend="trio",
    default_parameter=Parameter(negative_iterable=()),  # no --empty-... flags
    result_action="return_value",
    print_error=False,
    exit_on_error=False,
)
_RUNNING = Group("Running", sort_key=1)
_JOBS = Group("Jobs", sort_key=2)
_QUEUE = Group("The queue", sort_key=3)

# Commands are named, not imported, and described here, so that --help imports none of them.
_COMMANDS = {
    _RUNNING: {
        "run": (
            "_run:run",
            """Run jobs until a signal ends it.

            Brings the schema up to date first. The first SIGINT, SIGTERM or SIGHUP stops the worker: running
            jobs have the grace period to finish. The second interrupts them, and they go back to the queue.
            Either way the exit code is 0 if all is recorded.
            """,
        ),
        "admin": (
            "_admin:admin",
            """Serve pages and a JSON API to see, understand and repair the queue, until a signal ends it.

            If tasks are named, their types check the payloads of jobs that are added there. It runs no jobs.
            Needs the extra admin.
            """,
        ),
        "migrate": (
            "_migrate:migrate",
            "Install the schema, or bring it up to date. Workers may be running meanwhile.",
        ),
        "roles": (
            "_roles:roles",
            """Print SQL that makes roles with the least rights that programs need.

            It is a script for psql, and needs no database: nothing is changed until you run it.
            """,
        ),
    },
    _JOBS: {
        "add": ("_jobs:add", "Add a job."),
        "list": ("_jobs:list_jobs", "List jobs, by id."),
        "show": ("_jobs:show", "Show everything about one job."),
        "complete": (
            "_changes:complete",
            "Delete jobs as if they had succeeded. Locked jobs are skipped.",
        ),
        "fail": (
            "_changes:fail",
            "Fail jobs for good. Locked jobs are skipped.",
        ),
        "reschedule": (
            "_changes:reschedule",
            "Change the time, priority and attempts of jobs. Locked jobs are skipped.",
        ),
        "remove": (
            "_changes:remove",
            "Delete the job under a key. One that runs is not interrupted, but not tried again.",
        ),
        "cancel": (
            "_changes:cancel",
            "Interrupt the jobs that run, in any worker, and fail those that wait.",
        ),
    },
    _QUEUE: {
        "stats": ("_queue:stats", "Count all jobs by state."),
        "queues": ("_queue:queues", "List the named queues, by name."),
        "tasks": (
            "_queue:tasks",
            "List the tasks that the database knows, with their jobs by state and their live workers.",
        ),
        "workers": (
            "_workers:workers",
            """List the registered workers, and the others that have jobs or queues locked.

            The column presence says how the death of a worker is noticed: by its lock, within seconds, or by
            its lease only, when that has ended.
            """,
        ),
        "bench": (
            "_bench:bench",
            """Measure how many jobs one worker handles a second, and how soon, on this machine and server.

            It uses a schema of its own, which it drops afterwards, and touches no other schema.
            """,
        ),
        "doctor": (
            "_doctor:doctor",
            """Check the server and the queue, and say what is wrong and what to do about it.

            The exit code is 1 if there is a problem.
            """,
        ),
        "cleanup": (
            "_queue:cleanup",
            "Delete rows that are no longer needed; without an argument, explain which.",
        ),
        "force-unlock": (
            "_workers:force_unlock",
            "Unlock the jobs and queues of workers that are gone for good. The attempts stay used.",
        ),
        "sweep-stale-workers": (
            "_workers:sweep_stale_workers",
            "Give back the jobs of workers that died, as workers with recovery do automatically.",
        ),
    },
}
for _group, _commands in _COMMANDS.items():
    for _name, (_place, _help) in _commands.items():
        program.command(f"trio_graphile.cli.{_place}", name=_name, help=_help, group=_group)
crontab = App(name="crontab", help="Recurring jobs.", group=_QUEUE)
crontab.command(
    "trio_graphile.cli._crontab:check",
    name="check",
    help="""Show the entries of a crontab with their next five runs, and all its mistakes.

    Needs no database. The exit code is 1 if there is a mistake.
    """,
)
program.command(crontab)
program.register_install_completion_command(help="Teach your shell to complete commands and flags.")


@program.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the code with which a shell completes commands and flags.

    Args:
        shell: The shell.
    """
    print(program.generate_completion(shell=shell))


_OUTPUT_FAILS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def run_program(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code. Prints a line about errors that a user can correct."""
    try:
        program(_options_last(arguments))
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OUTPUT_FAILS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:  # a reader such as `| head` has had enough
            print(f"trio-graphile: the output cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    except (CycloptsError, GraphileError, KeyboardInterrupt, BaseExceptionGroup) as error:
        ending = exit_for(error)
        if ending is None:
            raise
        logger.info("in full:", exc_info=error)
        print(f"trio-graphile: {harmless(ending.text, sys.stderr)}", file=sys.stderr)
        return ending.exit_code
    return 0


_WITH_VALUE = ("--config", "--database-url", "--schema", "--pool-size")
_WITHOUT_VALUE = ("--json", "--verbose")


def _options_last(arguments: Sequence[str]) -> list[str]:
    """Move options before the command behind it; Graphile Worker RS allows them there."""
    rest: list[str] = list(arguments)
    moved: list[str] = []
    while rest and rest[0].partition("=")[0] in (*_WITH_VALUE, *_WITHOUT_VALUE):
        count = 2 if rest[0] in _WITH_VALUE else 1
        moved, rest = [*moved, *rest[:count]], rest[count:]
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *moved, *rest[end:]]
