"""Presence locks: a lock that stands for a worker, and what becomes of its jobs when nobody holds it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.database.functions.calls import add_job
from trio_graphile import Connection, Database, DatabaseError, open_database
from trio_graphile._database import presence_locks, sweeps, worker_registry
from trio_graphile._database.claiming import claims
from trio_graphile._database.presence_locks import Gone, PresenceLock
from trio_graphile._database.schema import migrate
from trio_graphile._model.options import SweepOptions
from trio_graphile.embedded import embedded_postgres

ME, OTHER = "trio_graphile_me", "trio_graphile_other"
GRACE = 10.0


async def take_lock(session: Connection) -> PresenceLock:
    lock, _ = await presence_locks.take_lock(session, presence_locks.draw_key(), None)
    assert lock is not None
    return lock


@asynccontextmanager
async def locked(database: Database, worker_id: str) -> AsyncIterator[tuple[Connection, PresenceLock]]:
    """Register a worker, and hold the lock that stands for it as long as the body lasts."""
    await worker_registry.heartbeat(database, worker_id, {"tasks": ["a"]})
    session = await database.open_session("presence", cancel_timeout=1)
    lock = await take_lock(session)
    try:
        assert await presence_locks.register(session, worker_id, lock, GRACE)
        yield session, lock
    finally:
        session.terminate()
    await presence_locks.end_sessions(database, [lock])


async def gone_workers(database: Database) -> list[Gone]:
    return (await presence_locks.look(database, ME, 0))[0]


async def test_whoever_holds_its_lock_is_not_gone(database: Database) -> None:
    async with locked(database, OTHER):
        assert await gone_workers(database) == []
    [gone] = await gone_workers(database)
    assert (gone.worker_id, gone.grace) == (OTHER, GRACE)


async def test_a_heartbeat_keeps_the_lock_registered_only_if_it_is_to(database: Database) -> None:
    async with locked(database, OTHER):
        await worker_registry.heartbeat(database, OTHER, {"tasks": ["b"]}, keeps_presence=True)
    assert [gone.worker_id for gone in await gone_workers(database)] == [OTHER]
    await worker_registry.heartbeat(database, OTHER, {"tasks": ["b"]})
    assert await gone_workers(database) == []


async def test_whoever_looks_sees_whether_its_own_lock_is_registered(database: Database) -> None:
    async with locked(database, ME) as (session, lock):
        assert await presence_locks.look(session, ME, lock.key) == ([], True)
        await presence_locks.renounce(database, ME, "why")
        assert await presence_locks.look(session, ME, lock.key) == ([], False)


async def test_a_new_session_says_whether_the_older_one_holds_its_lock(database: Database) -> None:
    async with locked(database, ME) as (_, older), database.connection() as session:
        _, is_older_held = await presence_locks.take_lock(session, presence_locks.draw_key(), older.key)
        assert is_older_held
        await presence_locks.end_sessions(database, [older])
        _, is_older_held = await presence_locks.take_lock(session, presence_locks.draw_key(), older.key)
        assert not is_older_held


async def test_what_others_write_into_the_registry_makes_no_sense_and_no_trouble(database: Database) -> None:
    async with database.connection() as session:
        lock = await take_lock(session)
    graces: list[object] = ["x", -1, None, [], {}]
    odd: list[object] = [
        *({"incarnation": lock.incarnation, "key": 1, "grace": grace} for grace in graces),
        {"incarnation": lock.incarnation, "grace": 1.0},
        {"incarnation": 5, "key": 1, "grace": 1.0},
        "presence",
        None,
        [],
    ]
    for number, presence in enumerate(odd):
        await worker_registry.heartbeat(database, f"odd {number}", {"presence": presence})
    await worker_registry.heartbeat(database, "odd", ["presence"])
    await worker_registry.heartbeat(database, "rust")
    assert await gone_workers(database) == []


async def test_jobs_of_a_worker_that_is_gone_are_given_back_at_once(database: Database) -> None:
    await add_job(database, queue_name="q")
    async with locked(database, OTHER):
        [job] = await claims.get_jobs(database, OTHER, ["a"], 1)
    gone = await gone_workers(database)
    report = await sweeps.sweep(database, SweepOptions(), sweeper_id=ME, gone=gone)
    assert report.worker_ids == (OTHER,)
    assert report.job_ids == (job.id,)
    [again] = await claims.get_jobs(database, ME, ["a"], 1)
    assert (again.id, again.attempts) == (job.id, job.attempts)


async def test_whoever_has_registered_anew_keeps_its_jobs(database: Database) -> None:
    await add_job(database)
    async with locked(database, OTHER):
        await claims.get_jobs(database, OTHER, ["a"], 1)
    gone = await gone_workers(database)
    async with locked(database, OTHER):
        report = await sweeps.sweep(database, SweepOptions(), sweeper_id=ME, gone=gone)
    assert report.worker_ids == ()
    assert await claims.get_jobs(database, ME, ["a"], 1) == []


async def test_a_crash_of_the_server_is_another_incarnation() -> None:
    with trio.fail_after(120):
        async with embedded_postgres() as server, open_database(server.url) as database:
            async with database.connection() as session:
                await migrate(session, database.schema)
            bystander = await database.open_session("bystander", cancel_timeout=1.0)
            async with locked(database, OTHER) as (_, lock), contextlib.aclosing(bystander):
                os.kill(lock.process, signal.SIGKILL)
                await bystander.wait_closed()  # the server has noticed, and ends all sessions
                assert await _after_recovery(database) != lock.incarnation
                assert await gone_workers(database) == []


async def _after_recovery(database: Database) -> str:
    while True:
        try:
            async with database.connection() as session:
                return (await take_lock(session)).incarnation
        except DatabaseError:  # the server has not recovered yet
            await trio.sleep(0.05)
