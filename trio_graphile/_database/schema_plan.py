"""Decides what a schema lacks, from what was found in it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import PostgresTooOld, SchemaTooNew, SchemaTooOld

OLDEST_SERVER_VERSION = 130_000  # as server_version_num has it: PostgreSQL 13
OLDEST_REVISION = 18
"""The oldest revision of the shared table of migrations whose tables are those of today."""
NEWEST_REVISION = 20
"""The newest revision that we install. Programs that go beyond it have functions of their own, which stay."""
BREAKING_REVISIONS = frozenset({1, 3, 11, 13, 14, 16, 19})

_FOUNDATION = 1
"""The file that makes the tables: recorded, but not run, if another program made them."""
_FUNCTIONS = frozenset({2})
"""The files with functions that every program calls: not run over those of a revision after
`NEWEST_REVISION`."""
_RECOVERY = frozenset({3})
"""The same for the functions of recovery, which not every program has."""


@attrs.frozen(kw_only=True)
class Migration:
    """One file of SQL."""

    id: int
    name: str
    statement: Statement = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class SchemaState:
    """The state of the schema in the database."""

    server_version: int
    schema_exists: bool = True
    migrations_exist: bool = True
    breaking_exists: bool = True
    """Whether the shared table of migrations has its third column, which the oldest releases did not make."""
    revision: int | None = None
    """The highest number in the shared table of migrations; None if it is empty or does not exist."""
    breaking_revision: int | None = None
    recovery_exists: bool = False
    """Whether the functions of recovery exist, whoever made them."""
    applied: frozenset[int] = frozenset()
    """The migrations of our own that were applied."""
    being_written: bool = False
    """Whether another program is writing to the shared table of migrations right now."""

    @property
    def is_too_old(self) -> bool:
        """Whether nothing is to be done."""
        return self.revision is not None and self.revision < OLDEST_REVISION


@attrs.frozen(kw_only=True)
class Plan:
    """The steps of a migration, which one transaction takes in this order."""

    revisions: tuple[int, ...] = ()
    """The rows that the shared table of migrations lacks."""
    announced: bool = False
    """Whether running workers are notified of these rows; a fresh schema has no workers."""
    scripts: tuple[Migration, ...] = ()
    recorded: tuple[int, ...] = ()
    """The rows that our table of migrations lacks."""
    warning: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the schema is as we want it."""
        return not self.revisions and not self.recorded


def plan_migration(state: SchemaState, migrations: Sequence[Migration]) -> Plan:
    """Return the steps that a schema needs. Raises `PostgresTooOld`, `SchemaTooOld` or `SchemaTooNew`."""
    check_server(state.server_version)
    if (state.breaking_revision or 0) > NEWEST_REVISION:
        raise SchemaTooNew(
            f"the schema's revision {state.breaking_revision} is a breaking one and we know none after "
            f"{NEWEST_REVISION}: a newer trio_graphile is needed"
        )
    if state.is_too_old:
        raise SchemaTooOld(
            f"the schema is at revision {state.revision} and we can take over from {OLDEST_REVISION} on: "
            "migrate it with the official tool first (npx graphile-worker --schema-only)"
        )
    missing = [migration for migration in migrations if migration.id not in state.applied]
    return Plan(
        revisions=tuple(range((state.revision or 0) + 1, NEWEST_REVISION + 1)),
        announced=state.revision is not None,
        scripts=tuple(migration for migration in missing if _is_ours_to_make(migration, state)),
        recorded=tuple(migration.id for migration in missing),
        warning=_unknown_migrations(state, migrations),
    )


def _is_ours_to_make(migration: Migration, state: SchemaState) -> bool:
    """Whether a file is run rather than only recorded: we do not replace what a newer revision brought."""
    if migration.id == _FOUNDATION:
        return state.revision is None
    if (state.revision or 0) <= NEWEST_REVISION:
        return True
    return migration.id not in _FUNCTIONS and not (migration.id in _RECOVERY and state.recovery_exists)


def check_server(version: int) -> None:
    """Raise `PostgresTooOld` for a server (180006 is 18.6) that is too old."""
    if version < OLDEST_SERVER_VERSION:
        number = f"{version // 10_000}.{version % 10_000 if version >= 100_000 else version // 100 % 100}"
        raise PostgresTooOld(
            f"PostgreSQL {OLDEST_SERVER_VERSION // 10_000} or newer is needed; this server is {number}"
        )


def _unknown_migrations(state: SchemaState, migrations: Sequence[Migration]) -> str | None:
    unknown = state.applied - {migration.id for migration in migrations}
    if not unknown:
        return None
    return (
        f"a newer trio_graphile applied its migrations {', '.join(map(str, sorted(unknown)))} to the schema; "
        "they do not break older ones, so we go on"
    )
