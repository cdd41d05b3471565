"""Locks: one that is free is taken without a checkpoint, one that is not is waited for."""

from __future__ import annotations

import trio
import trio.testing

from trio_graphile._database.locks import fast_acquire, take_if_free


async def test_what_is_free_is_taken_at_once() -> None:
    lock, room = trio.Lock(), trio.Semaphore(1)
    with trio.testing.assert_no_checkpoints():
        await fast_acquire(lock)
        await fast_acquire(room)
    assert lock.locked()
    assert not take_if_free(room)


async def test_what_is_taken_is_waited_for() -> None:
    lock = trio.Semaphore(1)
    assert take_if_free(lock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fast_acquire, lock)
        await trio.testing.wait_all_tasks_blocked()
        assert lock.statistics().tasks_waiting == 1
        lock.release()
    assert not take_if_free(lock)
