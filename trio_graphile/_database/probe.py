"""Facts about a server and a queue, by which `_model.diagnosis` says what is wrong with them.

It needs no named statements: a pooler may stand between us and the server.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import trio

from trio_graphile._database.connection import Connection, Executor, Row
from trio_graphile._database.database import Database, open_database
from trio_graphile._database.inspection import list_hidden
from trio_graphile._database.schema import check_schema, own_migrations
from trio_graphile._database.schema_plan import SchemaState, plan_migration
from trio_graphile._database.statement import Statement
from trio_graphile._exceptions import DatabaseError, DatabaseRefused, SchemaError, StatementFailed
from trio_graphile._model.diagnosis import (
    Finding,
    Holdback,
    Level,
    Lock,
    Neglected,
    QueueFacts,
    ServerFacts,
)
from trio_graphile._model.instants import time_of
from trio_graphile._model.options import DatabaseOptions
from trio_graphile._model.pooling import PoolingFacts, SettingsFacts

SETTINGS_HOLD = SettingsFacts()

PROBE_SERVER = Statement("""
    select current_setting('server_version_num')::integer as version,
      pg_is_in_recovery() as is_standby,
      current_setting('server_encoding') = 'SQL_ASCII' as is_without_encoding,
      current_setting('fsync') = 'off' as is_fsync_off,
      current_setting('autovacuum') = 'off' as is_autovacuum_off,
      current_setting('max_connections')::integer as max_sessions,
      current_setting('default_transaction_read_only') = 'on' as is_read_only,
      pg_has_role('pg_read_all_stats', 'usage') as sees_sessions,
      case
        when pg_has_role('pg_read_all_stats', 'usage') then (
          select count(*)
          from pg_catalog.pg_stat_activity
          where backend_type = 'client backend'
        )
        else (select sum(numbackends) from pg_catalog.pg_stat_database)
      end::integer as sessions
""")


async def probe_server(database: Database, settings: SettingsFacts = SETTINGS_HOLD) -> ServerFacts:
    """Return facts about the server. Takes up to five seconds if it sends no notifications.

    `settings` is the answer of `probe_settings`: the sessions of this database may have been opened without
    settings, and then cannot tell.
    """
    skew, error = await _compare_clocks(database)
    [row] = await database.fetch(PROBE_SERVER)
    is_pooled = await _is_pooled(database)
    return ServerFacts(
        # Not what we have asked for ourselves.
        **{**row, "is_read_only": row["is_read_only"] and not database.is_read_only},
        clock_skew=skew,
        clock_error=error,
        pooling=PoolingFacts(
            mode="transaction" if is_pooled else "session" if settings.are_refused else None,
            ignored=settings.ignored,
            is_expected=database.options.pooled,
            may_listen=database.may_listen,
            hears=database.may_listen and not row["is_standby"] and await _hears(database),
        ),
    )


READ_CLOCK = Statement("select clock_timestamp()")


async def _compare_clocks(database: Database) -> tuple[float, float]:
    """Return how far the server's clock is ahead of ours, and the precision of that; the best of three."""
    found = []
    for _ in range(3):
        before = datetime.now(UTC)
        there = await database.fetch_value(READ_CLOCK)
        after = datetime.now(UTC)
        half = (after - before).total_seconds() / 2
        found.append((half, (there - before).total_seconds() - half))
    error, skew = min(found)
    return skew, error


async def _is_pooled(database: Database) -> bool:
    """Whether a pooler lends the server process of an idle session of ours to others."""
    async with database.connection() as ours:
        before = await _process_behind(ours)
        async with database.transaction() as other:
            taken = await _process_behind(other)
            return taken == before or await _process_behind(ours) != before


READ_PROCESS = Statement("select pg_backend_pid()")


async def _process_behind(session: Connection) -> int:
    """Return the number of the server process that answers a session now."""
    return int(await session.fetch_value(READ_PROCESS))


_ECHO_TIMEOUT = 5.0
"""How long to wait for a notification of our own, in seconds."""
NOTIFY = Statement("select pg_notify($1::text, '')")  # $1 channel


async def _hears(database: Database) -> bool:
    """Whether a notification that one session sends reaches another."""
    channel, heard = f"trio_graphile:doctor:{secrets.token_hex(6)}", trio.Event()
    listening = await database.open_session("doctor", cancel_timeout=_ECHO_TIMEOUT, direct=True)
    try:
        await listening.listen(channel, lambda _: heard.set())
        await database.fetch(NOTIFY, channel)
        with trio.move_on_after(_ECHO_TIMEOUT):
            await heard.wait()
    finally:
        await listening.aclose()  # noqa: ASYNC102  # a second at most
    return heard.is_set()


_UNKNOWN_PARAMETER = "08P01"
"""The SQLSTATE with which PgBouncer refuses a session with settings that it does not know."""


FIND_IGNORED = (
    Statement("""
    with found as materialized (
      select asked.name, asked.value, current_setting(asked.name) as current
      from unnest($1::text[], $2::text[]) as asked(name, value)
    )
    select found.name
    from found
    where set_config(found.name, found.value, true) <> found.current
""")
)  # $1 names of settings, $2 the values asked for, which are set here only to be written as the server does.

_MAY_DIFFER = frozenset({"application_name"})
"""Poolers may add to it where a client is, which harms nobody."""


async def probe_settings(url: str | None, options: DatabaseOptions) -> SettingsFacts:
    """Say what becomes of the settings that a worker's own sessions have if the options are these."""
    try:
        async with open_database(url, options) as database:
            return SettingsFacts(ignored=await _find_ignored(database))
    except DatabaseRefused as error:
        return SettingsFacts(are_refused=error.sqlstate == _UNKNOWN_PARAMETER)
    except DatabaseError:
        return SETTINGS_HOLD  # whoever asks finds out why


async def _find_ignored(database: Database) -> tuple[str, ...]:
    """Return the names of the settings that a session of its own has asked for and does not have."""
    asked = {name: value for name, value in database.settings_asked_for.items() if name not in _MAY_DIFFER}
    if not asked:
        return ()
    session = await database.open_session("doctor", cancel_timeout=_ECHO_TIMEOUT)
    try:
        rows = await session.fetch(FIND_IGNORED, [*asked.keys()], [*asked.values()])
    finally:
        await session.aclose()  # noqa: ASYNC102  # a second at most
    return tuple(sorted(row["name"] for row in rows))


LIST_HOLDBACKS = Statement("""
    select 'transaction' as kind, activity.pid::text as name, activity.usename::text as user,
      nullif(activity.application_name, '') as application,
      extract(epoch from now() - activity.xact_start)::float8 as seconds
    from pg_catalog.pg_stat_activity as activity
    where activity.backend_xmin is not null
      and activity.xact_start is not null
      and activity.pid <> pg_backend_pid()
      and activity.backend_type = 'client backend'
    union all
    select 'prepared transaction', prepared.gid, prepared.owner::text, prepared.database::text,
      extract(epoch from now() - prepared.prepared)::float8
    from pg_catalog.pg_prepared_xacts as prepared
    union all
    select 'replication slot', slots.slot_name::text, null, slots.plugin::text, null
    from pg_catalog.pg_replication_slots as slots
    where not slots.active
      and (slots.xmin is not null or slots.catalog_xmin is not null)
    order by seconds desc nulls last
    limit 20
""")


async def list_holdbacks(executor: Executor) -> list[Holdback]:
    """Return what keeps vacuum from removing dead rows, the oldest first."""
    return [Holdback(**row) for row in await executor.fetch(LIST_HOLDBACKS)]


_GRANT_ADVICE = "grant our role what it needs: docs/roles.md"


async def probe_schema(database: Database) -> tuple[Finding, bool]:
    """Return a finding about the schema, and whether it holds a queue that can be read."""
    name = f"schema {database.schema}"
    try:
        async with database.connection() as connection:
            state = await check_schema(connection, database.schema)
    except StatementFailed as error:
        return Finding("schema", Level.PROBLEM, f"{name} cannot be read: {error}", _GRANT_ADVICE), False
    return _judge_schema(name, state)


_MIGRATE_ADVICE = "trio-graphile migrate (with --dry-run it only says what it would do)"


def _judge_schema(name: str, state: SchemaState) -> tuple[Finding, bool]:
    """Return a finding about the state of a schema, and whether its queue can be read."""
    try:
        plan = plan_migration(state, own_migrations())
    except SchemaError as error:
        return Finding("schema", Level.PROBLEM, f"{name}: {error}", "see docs/schema.md"), False
    if state.revision is None:
        return Finding("schema", Level.PROBLEM, f"{name} is not installed", _MIGRATE_ADVICE), False
    if not plan.is_empty:
        text = f"{name} is at revision {state.revision}, and lacks {len(plan.scripts)} of our migrations"
        return Finding("schema", Level.PROBLEM, text, _MIGRATE_ADVICE), True
    if plan.warning is not None:
        return Finding("schema", Level.WARNING, plan.warning, "upgrade trio-graphile"), True
    return Finding("schema", Level.OK, f"{name} is up to date, at revision {state.revision}"), True


async def probe_queue(
    executor: Executor,
    *,
    alive: Mapping[str, bool],
    tasks: Sequence[str],
    lockless: Mapping[str, str] = MappingProxyType({}),
    neglected_after: float = 60.0,
) -> QueueFacts:
    """Return facts about the jobs and their locks. Reads the whole table.

    `alive` says of each registered worker whether it sends heartbeats, `tasks` are those of the live ones,
    and `lockless` says why no lock stands for some of them. A task is neglected if its jobs have been due for
    `neglected_after` seconds.
    """
    return QueueFacts(
        **(await _probe_table(executor)),
        hidden=await list_hidden(executor),
        locks=await _list_locks(executor, alive),
        neglected=await _list_neglected(executor, tasks, neglected_after),
        live_workers=sum(alive.values()),
        lockless=lockless,
    )


def unreadable_queue(error: StatementFailed) -> Finding:
    """Return the finding about a queue that could not be read."""
    return Finding("queue", Level.PROBLEM, f"it cannot be read: {error}", _GRANT_ADVICE)


PROBE_TABLE = Statement("""
    select coalesce(stats.n_live_tup, 0) as live_rows,
      coalesce(stats.n_dead_tup, 0) as dead_rows,
      (
        select count(*)
        from {schema}._private_jobs as jobs
        where jobs.is_available = false
          and jobs.locked_at is null
      ) as failed_jobs
    from (
      select to_regclass($trio_graphile${schema}._private_jobs$trio_graphile$)::oid as id
    ) as jobs_table
    left join pg_catalog.pg_stat_user_tables as stats on stats.relid = jobs_table.id
""")


async def _probe_table(executor: Executor) -> Row:
    """Return how many rows the jobs table has: live ones, dead ones, and those of failed jobs."""
    [row] = await executor.fetch(PROBE_TABLE)
    return row


LIST_LOCKS = Statement("""
    with locks as (
      select jobs.locked_by as worker_id, jobs.locked_at, 1 as jobs, 0 as queues, 0 as waiting
      from {schema}._private_jobs as jobs
      where jobs.locked_at is not null
      union all
      select queues.locked_by, queues.locked_at, 0, 1,
        (
          select count(*)
          from {schema}._private_jobs as jobs
          where jobs.job_queue_id = queues.id
            and jobs.is_available = true
            and jobs.run_at <= now()
        )
      from {schema}._private_job_queues as queues
      where queues.locked_at is not null
    )
    select locks.worker_id, sum(locks.jobs)::bigint as jobs, sum(locks.queues)::bigint as queues,
      sum(locks.waiting)::bigint as waiting,
      date_part('epoch', now()) - date_part('epoch', max(locks.locked_at)) as seconds
    from locks
    where locks.worker_id is not null
    group by locks.worker_id
    order by seconds desc
    limit 100
""")


async def _list_locks(executor: Executor, alive: Mapping[str, bool]) -> list[Lock]:
    """Return the locks of each worker; first comes the worker whose last lock is the oldest."""
    rows = await executor.fetch(LIST_LOCKS)
    return [Lock(**row, is_alive=alive.get(row["worker_id"])) for row in rows]


LIST_NEGLECTED = Statement("""
    select tasks.identifier, count(*) as jobs, date_part('epoch', min(jobs.run_at)) as since
    from {schema}._private_jobs as jobs
    join {schema}._private_tasks as tasks on tasks.id = jobs.task_id
    where jobs.is_available = true
      and jobs.run_at < now() - make_interval(secs => $2::float8)
      and tasks.identifier <> all($1::text[])
    group by tasks.identifier
    order by tasks.identifier
    limit 100
""")  # $1 tasks that somebody has, $2 seconds


async def _list_neglected(executor: Executor, tasks: Sequence[str], after: float) -> list[Neglected]:
    """Return the tasks that are not among these and have jobs that have been due for `after` seconds."""
    rows = await executor.fetch(LIST_NEGLECTED, tasks, after)
    return [Neglected(**{**row, "since": time_of(row["since"])}) for row in rows]
