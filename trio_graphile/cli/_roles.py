"""`trio-graphile roles`: prints SQL that makes roles with the least rights that programs need."""

from __future__ import annotations

from trio_graphile._database.roles import names_for, roles_script
from trio_graphile.cli._flags import NOTHING_GIVEN, CommonFlags
from trio_graphile.cli._output import print_json


def roles(
    *,
    migrator: str | None = None,
    worker: str | None = None,
    enqueuer: str | None = None,
    observer: str | None = None,
    common: CommonFlags = NOTHING_GIVEN,
) -> None:
    """Print SQL that makes roles with the least rights that programs need.

    Args:
        migrator: The role that owns the schema. Each name defaults to that of the schema and what the role
            does, such as graphile_worker_migrator.
        worker: The role of workers.
        enqueuer: The role of programs that only add jobs.
        observer: The role of programs that only read, such as a read-only admin.
    """
    schema = common.settings().database.schema
    names = names_for(schema, migrator=migrator, worker=worker, enqueuer=enqueuer, observer=observer)
    script = roles_script(schema, names)
    if common.as_json:
        print_json({"sql": script})
    else:
        print(script, end="")
