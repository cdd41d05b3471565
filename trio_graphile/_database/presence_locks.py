"""Presence locks: one on a session of its own stands for a worker, as long as its process has that session.

The key of the lock is drawn anew for each session, and the worker's registration names it. So a key that is
registered and that nobody holds is never held again: whoever lives has changed its registration since, or is
about to let go of its jobs. It counts only on the incarnation of the server where the lock was taken.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Sequence
from datetime import datetime

import attrs
import trio

from trio_graphile._database.connection import Connection, Executor
from trio_graphile._database.session import ACTIVITY_OF, END
from trio_graphile._database.statement import Statement
from trio_graphile._model.backoff import backoff_delays

_KEY_BITS = 53
"""What every language reads from JSON as it was written."""

# The second changes when all sessions are lost in a crash, after which the postmaster is still the same.
# Also when somebody resets these statistics: then the lease decides until the worker has registered anew.
_INCARNATION = """concat_ws(
        ' ',
        extract(epoch from pg_postmaster_start_time()),
        extract(epoch from pg_stat_get_bgwriter_stat_reset_time())
      )"""

_HELD_KEYS = """array(
        select ((locks.classid::bigint << 32) | locks.objid::bigint)::text
        from pg_locks as locks
        where locks.locktype = 'advisory'
          and locks.objsubid = 1
          and locks.granted
          and locks.database = (
            select databases.oid
            from pg_database as databases
            where databases.datname = current_database()
          )
      )"""


@attrs.frozen(kw_only=True)
class PresenceLock:
    """A session that stands for a worker."""

    key: int
    incarnation: str
    """Which server it is on, and since which start."""
    process: int
    began_at: datetime
    """Identify the session to the server."""


@attrs.frozen
class Gone:
    """A worker whose key nobody holds."""

    worker_id: str
    key: str
    grace: float = attrs.field(eq=False)
    """For how long its jobs are left alone, in seconds; it has said so itself."""


def draw_key() -> int:
    """Return a key that nobody has."""
    return random.getrandbits(_KEY_BITS)  # not a secret


TAKE_LOCK = Statement(
    """
    select pg_try_advisory_lock($1::bigint) as is_locked, activity.pid as process,
      activity.backend_start as began_at,
      {incarnation} as incarnation,
      $2::bigint::text = any({held_keys}) as is_older_held
    from {activity}
""".replace("{incarnation}", _INCARNATION)
    .replace("{held_keys}", _HELD_KEYS)
    .replace("{activity}", ACTIVITY_OF.replace("{process}", "pg_backend_pid()"))
)  # $1 key, $2 that of an older session


async def take_lock(connection: Connection, key: int, older: int | None) -> tuple[PresenceLock | None, bool]:
    """Have a session hold a key; return the lock, or None, and whether the older key is still held."""
    [row] = await connection.fetch(TAKE_LOCK, key, older)
    if not row["is_locked"]:
        return None, bool(row["is_older_held"])
    lock = PresenceLock(
        key=key, incarnation=row["incarnation"], process=row["process"], began_at=row["began_at"]
    )
    return lock, bool(row["is_older_held"])


FIND_INCARNATION = Statement("select {incarnation} as incarnation".replace("{incarnation}", _INCARNATION))


async def find_incarnation(connection: Connection) -> str:
    """Return the incarnation of the server at this moment."""
    return str(await connection.fetch_value(FIND_INCARNATION))


async def end_sessions(executor: Executor, locks: Sequence[PresenceLock]) -> None:
    """Wait until the server has ended these sessions: nothing of theirs can take effect any more."""
    for lock in locks:
        for delay in backoff_delays(first=0.01, cap=0.5):
            if not await executor.fetch(END, lock.process, lock.began_at):
                break
            await trio.sleep(delay)


REGISTER = Statement("""
    update {schema}._private_workers as workers
    set metadata = coalesce(workers.metadata, '{}'::jsonb) || jsonb_build_object(
      'presence',
      jsonb_build_object('key', $2::bigint, 'incarnation', $3::text, 'grace', $4::float8)
    )
    where workers.id = $1::text
    returning workers.id
""")  # $1 worker id, $2 key, $3 incarnation, $4 seconds


async def register(executor: Executor, worker_id: str, lock: PresenceLock, grace: float) -> bool:
    """Write into the registration which lock stands for the worker; False if there is none."""
    return bool(await executor.fetch(REGISTER, worker_id, lock.key, lock.incarnation, grace))


RENOUNCE = Statement("""
    update {schema}._private_workers as workers
    set metadata = workers.metadata || jsonb_build_object('presence', jsonb_build_object('why_not', $2::text))
    where workers.id = $1::text
      and jsonb_typeof(workers.metadata) = 'object'
""")  # $1 worker id, $2 a reason


async def renounce(executor: Executor, worker_id: str, why: str) -> None:
    """Take it out again: no lock stands for the worker, and its lease decides."""
    await executor.execute(RENOUNCE, worker_id, why)


LOOK = Statement(
    """
    select workers.id as worker_id, workers.metadata #>> '{presence,key}' as key,
      workers.metadata #>> '{presence,grace}' as grace
    from {schema}._private_workers as workers
    where workers.metadata #>> '{presence,incarnation}' = {incarnation}
      and workers.metadata #>> '{presence,key}' is not null
      and (
        case
          when workers.id = $1::text
          then workers.metadata #>> '{presence,key}' = $2::bigint::text
          else workers.metadata #>> '{presence,key}' <> all({held_keys})
        end
      )
    order by workers.id
""".replace("{incarnation}", _INCARNATION).replace("{held_keys}", _HELD_KEYS)
)  # $1 who looks, $2 its key


async def look(executor: Executor, worker_id: str, key: int) -> tuple[list[Gone], bool]:
    """Return the workers whose keys nobody holds, and whether the registration of who looks names its key."""
    rows = await executor.fetch(LOOK, worker_id, key)
    gone = [
        Gone(row["worker_id"], row["key"], grace)
        for row in rows
        if row["worker_id"] != worker_id and (grace := _seconds(row["grace"])) is not None
    ]
    return gone, any(row["worker_id"] == worker_id for row in rows)


def _seconds(text: str | None) -> float | None:
    """Return what a registration says, which anybody may have written; None if it makes no sense."""
    with contextlib.suppress(ValueError, TypeError):
        if 0 < (seconds := float(text or "")) < math.inf:
            return seconds
    return None


LOCK_GONE_WORKERS = Statement(
    """
    select workers.id
    from {schema}._private_workers as workers
    where workers.id = any($1::text[])
      and (workers.id, workers.metadata #>> '{presence,key}') in (
        select gone.id, gone.key
        from unnest($1::text[], $2::text[]) as gone(id, key)
      )
      and workers.metadata #>> '{presence,incarnation}' = {incarnation}
      and workers.metadata #>> '{presence,key}' <> all({held_keys})
    order by workers.id
    for update skip locked
""".replace("{incarnation}", _INCARNATION).replace("{held_keys}", _HELD_KEYS)
)
# $1 worker ids, $2 their keys. The rows stay locked, so that nobody registers anew between this look and what
# follows from it.


async def lock_gone(connection: Connection, gone: Sequence[Gone]) -> tuple[str, ...]:
    """Return which of these workers are gone still, and keep them so until the transaction ends."""
    rows = await connection.fetch(
        LOCK_GONE_WORKERS, [one.worker_id for one in gone], [one.key for one in gone]
    )
    return tuple(row["id"] for row in rows)
