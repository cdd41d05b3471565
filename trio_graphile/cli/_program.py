"""The program's commands, and its way out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import metadata

from cyclopts import App, CycloptsError, Parameter

from trio_graphile._exceptions import GraphileError
from trio_graphile.cli._errors import judge

logger = logging.getLogger("trio_graphile.cli")


def _version() -> str:
    try:
        return metadata.version("trio-graphile")
    except metadata.PackageNotFoundError:
        return "not installed: run from its sources"


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
# Named, not imported, and described here, so that --help imports none of them.
program.command(
    "trio_graphile.cli._migrate:migrate",
    name="migrate",
    help="Install the schema, or bring it up to date. Workers may be running meanwhile.",
)
program.command(
    "trio_graphile.cli._run:run",
    name="run",
    help="""Run jobs until a signal ends it.

    Brings the schema up to date first. The first SIGINT, SIGTERM or SIGHUP stops the worker: running jobs
    have the grace period to finish. The second interrupts them, and they go back to the queue. Either way the
    exit code is 0 if all is recorded.
    """,
)
crontab = App(name="crontab", help="Recurring jobs.")
crontab.command(
    "trio_graphile.cli._crontab:check",
    name="check",
    help="""Show the entries of a crontab with their next five runs, and everything that is wrong with it.

    Needs no database. The exit code is 1 if anything is wrong.
    """,
)
program.command(crontab)


def run_program(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code; what a user can mend is one line on standard error."""
    try:
        program(arguments)
    except (CycloptsError, GraphileError, KeyboardInterrupt, BaseExceptionGroup) as error:
        verdict = judge(error)
        if verdict is None:
            raise
        logger.info("in full:", exc_info=error)
        print(f"trio-graphile: {verdict.text}", file=sys.stderr)
        return verdict.exit_code
    return 0
