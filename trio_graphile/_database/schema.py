"""The schema in the database: checks what is installed, and installs what is missing.

Two tables record what was installed. `migrations` is shared with the Node and the Rust worker, which look
only at the highest number and the highest breaking number; we write those up to 20 and none of our own.
Rust's numbers go beyond that and bring other functions, which we keep: ours work on either.
`trio_graphile_migrations` is ours: it records the files in the folder `migrations`.
"""

from __future__ import annotations

import functools
import logging
from importlib import resources

import attrs
import trio

from trio_graphile._database.brief_transaction import brief_transaction
from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.rights import ADVICE, INSUFFICIENT_PRIVILEGE, name_missing_right
from trio_graphile._database.schema_plan import (
    BREAKING_REVISIONS,
    NEWEST_REVISION,
    Migration,
    Plan,
    SchemaState,
    plan_migration,
)
from trio_graphile._database.statement import Statement, quote_identifier
from trio_graphile._exceptions import MigrationFailed, SchemaMissing, SchemaTooOld, StatementFailed
from trio_graphile._model.backoff import backoff_delays

logger = logging.getLogger("trio_graphile.database")

_CLASHES = frozenset({"23505", "42P06", "42P07", "42710", "40P01", "55P03", "XX000"})
"""Clashes of two installers: something exists already, one waits too long for the other, or the other has
just replaced the same function, which PostgreSQL reports as an internal error."""
_UNDEFINED = frozenset({"3F000", "42P01", "42703"})


@attrs.frozen(kw_only=True)
class MigrationReport:
    """The result of `migrate`."""

    found: SchemaState
    revisions: tuple[int, ...]
    """The rows that were written to the table of migrations that all workers share."""
    applied: tuple[int, ...]
    """The migrations of our own that were applied."""
    warning: str | None


@attrs.frozen(kw_only=True)
class InstallTimeouts:
    """How long to wait for other installers. Durations are seconds."""

    limit: float = 30.0
    quiet_period: float = 1.5
    """An old schema that has not changed for so long is not being migrated by another program."""


@functools.cache
def own_migrations() -> tuple[Migration, ...]:
    """Return our migrations in their order."""
    files = (resources.files("trio_graphile._database") / "migrations").iterdir()
    return tuple(
        Migration(
            id=int(file.name.partition("_")[0]),
            name=file.name.removesuffix(".sql"),
            statement=Statement(file.read_text(encoding="utf-8")),
        )
        for file in sorted(files, key=lambda file: file.name)
        if file.name.endswith(".sql")
    )


# --- looking ------------------------------------------------------------------------------------

READ_STATE = Statement("""
    select
      current_setting('server_version_num')::integer as server_version,
      (select max(id) from {schema}.migrations) as revision,
      (select max(id) from {schema}.migrations where breaking) as breaking_revision,
      to_regproc($trio_graphile${schema}.recover_dead_worker_jobs$trio_graphile$) is not null
        as recovery_exists,
      array(select id from {schema}.trio_graphile_migrations) as applied
""")

PROBE = """
    with relations as (
      select pg_class.oid, pg_class.relname
      from pg_catalog.pg_class
      join pg_catalog.pg_namespace on pg_namespace.oid = pg_class.relnamespace
      where pg_namespace.nspname = $1::text
    )
    select
      current_setting('server_version_num')::integer as server_version,
      exists (
        select
        from pg_catalog.pg_namespace
        where pg_namespace.nspname = $1::text
      ) as schema_exists,
      exists (
        select
        from relations
        where relations.relname = 'migrations'
      ) as migrations_exist,
      exists (
        select
        from relations
        join pg_catalog.pg_attribute on pg_attribute.attrelid = relations.oid
        where relations.relname = 'migrations'
          and pg_attribute.attname = 'breaking'
          and not pg_attribute.attisdropped
      ) as breaking_exists,
      exists (
        select
        from pg_catalog.pg_proc
        join pg_catalog.pg_namespace on pg_namespace.oid = pg_proc.pronamespace
        where pg_namespace.nspname = $1::text
          and pg_proc.proname = 'recover_dead_worker_jobs'
      ) as recovery_exists,
      exists (
        select
        from relations
        where relations.relname = 'trio_graphile_migrations'
      ) as own_migrations_exist,
      exists (
        select
        from relations
        join pg_catalog.pg_locks on pg_locks.relation = relations.oid
        where relations.relname = 'migrations'
          and pg_locks.database = (select oid from pg_catalog.pg_database where datname = current_database())
          and pg_locks.mode not in ('AccessShareLock', 'RowShareLock')
          and pg_locks.pid <> pg_backend_pid()
      ) as being_written
"""  # $1 schema name. It reads catalogs alone, so it never fails, not even inside a transaction.

READ_REVISION = Statement("select max(id) from {schema}.migrations")
READ_BREAKING_REVISION = Statement("select max(id) from {schema}.migrations where breaking")
READ_APPLIED = Statement("select array(select id from {schema}.trio_graphile_migrations)")


async def check_schema(executor: Executor, schema: str) -> SchemaState:
    """Return what is installed, by one query if all is.

    Not for use inside a transaction, which the failure of that query would end.
    """
    try:
        [row] = await executor.fetch(READ_STATE.for_schema(quote_identifier(schema)))
    except StatementFailed as error:
        if error.sqlstate == INSUFFICIENT_PRIVILEGE:
            raise name_missing_right(error, READ_STATE.text) from error.__cause__
        if error.sqlstate not in _UNDEFINED:
            raise
        return await _probe(executor, schema)
    return SchemaState(
        server_version=row["server_version"],
        revision=row["revision"],
        breaking_revision=row["breaking_revision"],
        recovery_exists=row["recovery_exists"],
        applied=frozenset(row["applied"]),
    )


async def require_schema(executor: Executor, schema: str) -> None:
    """Raise `SchemaMissing` unless the schema is complete. Raises what `plan_migration` does, too."""
    state = await check_schema(executor, schema)
    if not plan_migration(state, own_migrations()).is_empty:
        raise SchemaMissing(f"the schema {schema!r} is not installed, or not up to date: run `migrate`")


async def _probe(executor: Executor, schema: str) -> SchemaState:
    [row] = await executor.fetch(PROBE, schema)
    fields = dict(row)
    quoted = quote_identifier(schema)
    if fields["migrations_exist"]:
        fields["revision"] = await executor.fetch_value(READ_REVISION.for_schema(quoted))
    if fields["breaking_exists"]:
        fields["breaking_revision"] = await executor.fetch_value(READ_BREAKING_REVISION.for_schema(quoted))
    if fields.pop("own_migrations_exist"):
        fields["applied"] = frozenset(await executor.fetch_value(READ_APPLIED.for_schema(quoted)))
    return SchemaState(**fields)


async def is_superseded(executor: Executor) -> bool:
    """Whether a program installed a revision that this version cannot work with."""
    return (await executor.fetch_value(READ_BREAKING_REVISION) or 0) > NEWEST_REVISION


# --- doing --------------------------------------------------------------------------------------


async def migrate(
    connection: Connection, schema: str, *, timeouts: InstallTimeouts | None = None
) -> MigrationReport:
    """Install the schema or bring it up to date; other programs may do the same meanwhile.

    Runs in one transaction of its own (do not call it inside another): all or nothing. Raises
    `PostgresTooOld`, `SchemaTooOld`, `SchemaTooNew`, `MigrationFailed` (the server refuses a step), or
    `DatabaseError`.
    """
    timeouts = timeouts if timeouts is not None else InstallTimeouts()
    found = await _wait_until_quiet(connection, schema, timeouts)
    plan = plan_migration(found, own_migrations())
    if not plan.is_empty:
        deadline = trio.current_time() + timeouts.limit
        for delay in backoff_delays(first=0.1, cap=1.0):
            try:
                found, plan = await _attempt(connection, schema)
                break
            except SchemaTooOld:
                if found.is_too_old or trio.current_time() > deadline:  # else somebody has begun to write
                    raise
            except StatementFailed as error:
                clash = error.sqlstate in _CLASHES
                if error.transient and not clash:
                    raise
                if not clash or trio.current_time() > deadline:
                    raise MigrationFailed(
                        f"the schema {schema!r} could not be migrated: {error}{_who(error)}"
                    ) from error
            await trio.sleep(delay)
            found = await _wait_until_quiet(connection, schema, timeouts)
    if plan.warning is not None:
        logger.warning("%s", plan.warning)
    return MigrationReport(found=found, revisions=plan.revisions, applied=plan.recorded, warning=plan.warning)


def _who(error: StatementFailed) -> str:
    if error.sqlstate != INSUFFICIENT_PRIVILEGE:
        return ""
    return f"; run `trio-graphile migrate` as the role that owns the schema ({ADVICE})"


async def _wait_until_quiet(connection: Connection, schema: str, timeouts: InstallTimeouts) -> SchemaState:
    """Return what is installed, as soon as no other program seems to be installing."""
    state = await check_schema(connection, schema)
    deadline = trio.current_time() + timeouts.limit
    quiet_at = trio.current_time() + timeouts.quiet_period
    delays = backoff_delays(cap=timeouts.quiet_period / 4)
    while state.is_too_old and trio.current_time() < min(quiet_at, deadline):
        await trio.sleep(next(delays))
        newer = await _probe(connection, schema)
        if newer.being_written or newer.revision != state.revision:
            quiet_at = trio.current_time() + timeouts.quiet_period
        state = newer
    return state


LOCK = """
    select
      set_config('lock_timeout', '5s', true),
      pg_advisory_xact_lock(hashtextextended('trio_graphile ' || $1::text, 0))
"""  # $1 schema name. Whoever waits for a lock on a table makes all others wait: not for long, then.

LOCK_MIGRATIONS = Statement("lock table {schema}.migrations in share row exclusive mode")
# Other installers wait for this lock, and we for those ahead of us: until we are done, nobody changes what we
# read next, and nobody replaces a function by that of a newer revision.


async def _attempt(connection: Connection, schema: str) -> tuple[SchemaState, Plan]:
    async with brief_transaction(connection, "read_committed"):
        await connection.execute(LOCK, schema)
        state = await _probe(connection, schema)
        if state.migrations_exist:
            await connection.execute(LOCK_MIGRATIONS.for_schema(quote_identifier(schema)))
            state = await _probe(connection, schema)
        plan = plan_migration(state, own_migrations())
        if not plan.is_empty:
            await _carry_out(connection, schema, state, plan)
    return state, plan


CREATE_SCHEMA = Statement("create schema {schema}")
CREATE_MIGRATIONS = Statement("""
    create table {schema}.migrations (
      id integer
        constraint migrations_pkey primary key,
      ts timestamptz not null default now(),
      breaking boolean not null default false
    )
""")
ADD_BREAKING = Statement("alter table {schema}.migrations add column breaking boolean not null default false")
MARK_BREAKING = Statement("update {schema}.migrations set breaking = true where id = any($1::integer[])")
RECORD_REVISIONS = Statement("""
    insert into {schema}.migrations (id, breaking)
    select revision.id, revision.id = any($2::integer[])
    from unnest($1::integer[]) as revision(id)
""")  # $1 ids, $2 which ids are breaking
ANNOUNCE_REVISIONS = """
    select pg_notify(
      'worker:migrate',
      json_build_object('migrationNumber', revision.id, 'breaking', revision.id = any($2::integer[]))::text
    )
    from unnest($1::integer[]) as revision(id)
"""  # $1 and $2 as above. Workers of Node stop at a breaking one.
CREATE_OWN_MIGRATIONS = Statement("""
    create table if not exists {schema}.trio_graphile_migrations (
      id integer
        constraint trio_graphile_migrations_pkey primary key,
      applied_at timestamptz not null default now()
    )
""")
RECORD_OWN = Statement("""
    insert into {schema}.trio_graphile_migrations (id)
    select migration.id
    from unnest($1::integer[]) as migration(id)
    on conflict (id) do nothing
""")  # $1 ids


async def _carry_out(connection: Connection, schema: str, state: SchemaState, plan: Plan) -> None:
    quoted = quote_identifier(schema)
    breaking = sorted(BREAKING_REVISIONS)
    if not state.schema_exists:
        await connection.execute(CREATE_SCHEMA.for_schema(quoted))
    if not state.migrations_exist:
        await connection.execute(CREATE_MIGRATIONS.for_schema(quoted))
    elif not state.breaking_exists:
        await connection.execute(ADD_BREAKING.for_schema(quoted))
        await connection.execute(MARK_BREAKING.for_schema(quoted), breaking)
    # The rows are written before the functions they stand for: another installer then waits for us right
    # here.
    await connection.execute(RECORD_REVISIONS.for_schema(quoted), plan.revisions, breaking)
    if plan.announced:
        await connection.execute(ANNOUNCE_REVISIONS, plan.revisions, breaking)
    await connection.execute(CREATE_OWN_MIGRATIONS.for_schema(quoted))
    for script in plan.scripts:
        await connection.execute(script.statement.for_schema(quoted))
    await connection.execute(RECORD_OWN.for_schema(quoted), plan.recorded)
