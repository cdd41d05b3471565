"""Somebody who meddles with what stands for a worker, or takes its jobs as others do when it seems dead.

What has to be waited for on the server is waited for there, in one statement: each step of ours would be one
more scheduling point of the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs
import trio

from tests.scenarios.journal import Journal
from trio_graphile import Database, WorkerPhase, WorkerStatistics
from trio_graphile._database.connection import Connection
from trio_graphile._database.dead_jobs import give_back
from trio_graphile._database.presence_locks import Gone, lock_gone
from trio_graphile._database.sweeps import FORGET_DEAD

OTHER = "another worker"
"""Who has the jobs that are taken."""
LONGEST_FENCE = 0.8
"""How long it is waited for that a worker which ends interrupts its handlers: its lease may have ended."""

WAIT_UNTIL = """
    create or replace function pg_temp.wait_until(condition text, worker_id text, key text)
    returns void
    language plpgsql
    as $$
    declare
      is_met boolean;
    begin
      loop
        perform pg_stat_clear_snapshot();
        execute condition into is_met using worker_id, key;
        exit when is_met;
        perform pg_sleep(0.005);
      end loop;
    end
    $$
"""

_HOLDERS = """
      select locks.pid
      from pg_locks as locks
      where locks.locktype = 'advisory'
        and locks.objsubid = 1
        and ((locks.classid::bigint << 32) | locks.objid::bigint)::text = {key}
"""

STANDS = f"""
    select exists (
      select
      from graphile_worker._private_workers as workers
      where workers.id = $1::text
        and workers.metadata #>> '{{presence,incarnation}}' <> '{OTHER}'
        and workers.metadata #>> '{{presence,key}}' <> $2::text
        and exists ({_HOLDERS.format(key="workers.metadata #>> '{presence,key}'")})
    )
"""  # $2 a key that does not count

HAS_JOBS = """
    select exists (select from graphile_worker._private_jobs as jobs where jobs.locked_by = $1::text)
      or not exists (
        select
        from graphile_worker._private_jobs as jobs
        where jobs.locked_by is null
          and jobs.is_available
          and jobs.run_at <= now()
      )
"""  # or none is left to be claimed

IS_GONE = f"select not exists ({_HOLDERS.format(key='$2::text')})"

IS_REGISTERING = """
    select exists (
      select
      from pg_stat_activity as activity
      where activity.datname = current_database()
        and activity.wait_event_type = 'Lock'
        and (
          activity.application_name like '% presence'
          or activity.query like '%worker_deregister%'
        )
    )
"""  # or it leaves, and registers no more

END_HOLDER = f"select pg_terminate_backend(holders.pid) from ({_HOLDERS.format(key='$1::text')}) as holders"

END_REGISTERING = """
    select pg_terminate_backend(activity.pid)
    from pg_stat_activity as activity
    where activity.datname = current_database()
      and activity.wait_event_type = 'Lock'
      and activity.application_name like '% presence'
"""

LOCK_REGISTRATION = """
    select workers.metadata #>> '{presence,key}'
    from graphile_worker._private_workers as workers
    where workers.id = $1::text
      and workers.metadata #>> '{presence,key}' is not null
    for update
"""

LOCK_JOBS = """
    select jobs.id
    from graphile_worker._private_jobs as jobs
    where jobs.locked_by = $1::text
    order by jobs.id
    for update skip locked
"""

CHANGE_INCARNATION = f"""
    update graphile_worker._private_workers
    set metadata = jsonb_set(metadata, '{{presence,incarnation}}', '"{OTHER}"')
    where id = $1::text
"""

UNREGISTER = "delete from graphile_worker._private_workers where id = $1::text"

CLAIM_FOR_OTHER = f"""
    with taken as (
      update graphile_worker._private_jobs as jobs
      set locked_by = '{OTHER}', locked_at = now(), attempts = jobs.attempts + 1
      where jobs.id = any($1::bigint[])
      returning jobs.job_queue_id
    )
    update graphile_worker._private_job_queues as queues
    set locked_by = '{OTHER}', locked_at = now()
    where queues.id in (select taken.job_queue_id from taken)
"""

BEHIND = f"""
    select jobs.id
    from graphile_worker._private_jobs as jobs
    join graphile_worker._private_job_queues as queues on queues.id = jobs.job_queue_id
    where queues.locked_by = '{OTHER}'
      and jobs.locked_by is null
"""


@attrs.define(eq=False)
class Rival:
    """Has a session of its own, and comes when called."""

    _database: Database
    _worker_id: str
    _journal: Journal
    _statistics: Callable[[], WorkerStatistics]
    """The worker's."""
    _is_ending: Callable[[], bool]
    _called: trio.Event = attrs.field(factory=trio.Event)
    _done: trio.Event = attrs.field(factory=trio.Event)
    _deed: Deed | None = None
    _then: Callable[[], None] = lambda: None

    def call(self, deed: Deed, then: Callable[[], None]) -> None:
        """Have something done; once the worker has lost what it loses by that, `then` is called."""
        self._deed, self._then = deed, then
        self._called.set()

    async def run(self) -> None:
        """Wait for a call, and for a lock that stands for the worker; then do it."""
        await self._called.wait()
        assert self._deed is not None
        async with self._database.connection() as session:
            await session.execute(WAIT_UNTIL)
            await self._wait_until(session, STANDS)
            await self._deed(self, session)
        self._done.set()

    @property
    def is_done(self) -> bool:
        """Whether it was called and has done it."""
        return self._done.is_set()

    async def wait_done(self) -> None:
        """Wait until it is done, and the worker has overcome it, if it was called."""
        if self._called.is_set():
            await self._done.wait()

    async def _wait_until(self, session: Connection, condition: str, key: str = "") -> None:
        await session.execute(
            "select pg_temp.wait_until($1::text, $2::text, $3::text)", condition, self._worker_id, key
        )

    async def _lock_registration(self, session: Connection) -> str | None:
        """Have nobody write the registration until the transaction ends; return its key, if it has one."""
        key: str | None = await session.fetch_value(LOCK_REGISTRATION, self._worker_id)
        return key

    async def _end_session(self, session: Connection, key: str) -> None:
        """Have the server end the session that holds a key."""
        await session.execute(END_HOLDER, key)
        await self._wait_until(session, IS_GONE, key)
        self._then()

    async def _look(self, session: Connection, key: str) -> tuple[str, ...]:
        """Look whether the worker counts as dead, as others do once its grace is over."""
        return await lock_gone(session, [Gone(self._worker_id, key, 0.0)])

    # --- what it does ---------------------------------------------------------------------------

    async def cut_lock(self, session: Connection) -> None:
        """Have the session of the lock ended: the worker has another soon, and its jobs are its own."""
        key = await self._lock_registration(session)
        if key is None:
            return
        await self._end_session(session, key)
        await self._wait_until(session, STANDS, key)
        assert not await self._look(session, key), "its old key still counts"

    async def cut_registration(self, session: Connection) -> None:
        """Have the next session ended, too, while it registers its lock: the statement gets no answer."""
        async with session.transaction():
            key = await self._lock_registration(session)
            if key is None:
                return
            await self._end_session(session, key)
            await self._wait_until(session, IS_REGISTERING)
            await session.execute(END_REGISTERING)
        await self._wait_until(session, STANDS, key)

    async def change_incarnation(self, session: Connection) -> None:
        """Have the registration name another server: it is written anew."""
        await session.execute(CHANGE_INCARNATION, self._worker_id)
        self._then()
        await self._wait_until(session, STANDS)

    async def fail_over(self, session: Connection) -> None:
        """The same, and all that the worker held on the other is gone: here, only its lease decides."""
        async with session.transaction():
            key = await self._lock_registration(session)
            if key is None:
                return
            await session.execute(CHANGE_INCARNATION, self._worker_id)
            await self._end_session(session, key)
            assert not await self._look(session, key), "a lock on another server counts"
        await self._wait_until(session, STANDS, key)

    async def unregister(self, session: Connection) -> None:
        """Have the registration deleted: it is there again soon."""
        await session.execute(UNREGISTER, self._worker_id)
        self._then()
        await self._wait_until(session, STANDS)

    async def take_jobs(self, session: Connection) -> None:
        """Take all jobs at once, as from a worker that is roused when its grace is over."""
        await self._wait_until(session, HAS_JOBS)
        async with session.transaction():
            key = await self._lock_registration(session)
            if key is None:
                return
            await self._end_session(session, key)
            taken = await self._take(session, key)
        await self._wait_until(session, STANDS, key)
        await self._journal.wait_until(lambda: not self._journal.running & taken)

    async def take_jobs_after_fence(self, session: Connection) -> None:
        """Let it neither register another lock nor give jobs back, and take these once it has let go."""
        await self._wait_until(session, HAS_JOBS)
        async with session.transaction():
            key = await self._lock_registration(session)
            if key is None:
                return
            await session.fetch(LOCK_JOBS, self._worker_id)
            await self._end_session(session, key)
            if not await self._is_fenced():
                return
            await self._journal.wait_until(lambda: not self._journal.running)
            self._journal.elsewhere |= await self._take(session, key)
        await self._wait_until(session, STANDS, key)

    async def _is_fenced(self) -> bool:
        """Wait until the worker has interrupted its handlers. False if it has ended its lease before."""
        since = trio.current_time()
        while (now := self._statistics()).lease_holds:  # nobody tells
            may_be_over = self._is_ending() or now.phase is not WorkerPhase.RUNNING
            if may_be_over and trio.current_time() > since + LONGEST_FENCE:
                return False
            await trio.sleep(0.01)
        return True

    async def _take(self, session: Connection, key: str) -> set[int]:
        """Give all jobs of the worker to another, as a sweep of that would; return their ids."""
        dead = await self._look(session, key)
        assert dead == (self._worker_id,)
        taken = await give_back(session, dead, 0.0, ())
        await session.execute(FORGET_DEAD, dead)
        await session.execute(CLAIM_FOR_OTHER, taken)
        self._journal.behind |= {row["id"] for row in await session.fetch(BEHIND)}
        self._journal.taken |= {*taken}  # before anybody can see it
        self._journal.note()
        return {*taken}


Deed = Callable[[Rival, Connection], Awaitable[None]]
