"""The bell: who is woken by a ring, and who is not."""

from __future__ import annotations

import trio
import trio.testing

from trio_graphile._model.bell import Bell


async def test_a_ring_wakes_all_who_wait(nursery: trio.Nursery) -> None:
    bell, woken = Bell(), list[int]()

    async def wait(number: int) -> None:
        await bell.wait()
        woken.append(number)

    for number in range(3):
        nursery.start_soon(wait, number)
        await trio.testing.wait_all_tasks_blocked()
    bell.ring()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(woken) == [0, 1, 2]


async def test_whoever_comes_after_a_ring_waits_for_the_next(nursery: trio.Nursery) -> None:
    bell, woken = Bell(), trio.Event()

    async def wait() -> None:
        await bell.wait()
        woken.set()

    bell.ring()
    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    assert not woken.is_set()
    bell.ring()
    await trio.testing.wait_all_tasks_blocked()
    assert woken.is_set()


async def test_one_who_is_cancelled_keeps_nobody_else_from_hearing(nursery: trio.Nursery) -> None:
    bell, woken = Bell(), trio.Event()

    async def wait() -> None:
        await bell.wait()
        woken.set()

    nursery.start_soon(wait)
    with trio.move_on_after(0):
        await bell.wait()
    await trio.testing.wait_all_tasks_blocked()
    bell.ring()
    await trio.testing.wait_all_tasks_blocked()
    assert woken.is_set()
