"""The SQL that makes roles for a queue: what a worker, an enqueuer, an observer and a migrator may do."""

from __future__ import annotations

from importlib import resources

import attrs

from trio_graphile._database.statement import quote_identifier
from trio_graphile._exceptions import OptionInvalid

_LONGEST_NAME = 50
"""In bytes. Names of policies are a little longer, and PostgreSQL keeps 63 bytes of them."""
_QUOTE = "$roles$"  # of the script


@attrs.frozen(kw_only=True)
class RoleNames:
    """The names of the four roles."""

    migrator: str
    worker: str
    enqueuer: str
    observer: str

    def __attrs_post_init__(self) -> None:
        names = attrs.asdict(self)
        for option, name in names.items():
            _check_name(option, name)
            if len(name.encode()) > _LONGEST_NAME:
                raise OptionInvalid(option, f"the name is longer than {_LONGEST_NAME} bytes: {name!r}")
        if len(set(names.values())) < len(names):
            raise OptionInvalid("worker", "each role needs a name of its own")


def names_for(schema: str, **given: str | None) -> RoleNames:
    """Return the names that were given; the others begin with that of the schema. Raises `OptionInvalid`."""
    _check_name("schema", schema)
    return RoleNames(
        **{role.name: given.get(role.name) or f"{schema}_{role.name}" for role in attrs.fields(RoleNames)}
    )


def roles_script(schema: str, names: RoleNames) -> str:
    """Return a script for psql that makes the roles and grants them what they need; it can be run again.

    Raises `OptionInvalid`.
    """
    _check_name("schema", schema)
    template = (resources.files("trio_graphile._database") / "roles.sql").read_text(encoding="utf-8")
    quoted = quote_identifier(schema)
    values = {"schema": quoted, "schema_text": _text(schema)}
    for role, name in attrs.asdict(names).items():
        values |= {role: quote_identifier(name), f"{role}_text": _text(name)}
    for name, table in {
        "jobs": "_private_jobs",
        "tasks": "_private_tasks",
        "queues": "_private_job_queues",
        "retirements": "_private_job_retirements",
    }.items():
        values[f"{name}_text"] = _text(f"{quoted}.{table}")
    return template.format_map(values)


def _text(value: str) -> str:
    """Return a text as SQL; no backslash has a meaning in it, whatever the session's settings are."""
    quoted = value.replace("'", "''")
    return f"E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in value else f"'{quoted}'"


def _check_name(option: str, name: str) -> None:
    if not name.isprintable() or _QUOTE in name:
        raise OptionInvalid(option, f"a name cannot contain control characters or {_QUOTE}: {name!r}")
