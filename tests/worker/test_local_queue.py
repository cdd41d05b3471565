"""Prefetching: jobs are claimed ahead, run as if they were not, and given back when nobody takes them."""

from __future__ import annotations

import math
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from tests.support.handlers import Handlers
from tests.support.intake import Intake
from tests.support.jobs import make_job
from tests.support.tables import Table
from tests.support.workers import NEVER, make_worker
from trio_graphile import (
    Client,
    Database,
    Job,
    JobSpec,
    LocalQueueOptions,
    OptionInvalid,
    RefetchDelayOptions,
    ShutdownOptions,
    StatementFailed,
    WorkerOptions,
)
from trio_graphile._worker.ledger import Ledger

make_prefetching_worker = partial(make_worker, concurrency=2, local_queue=LocalQueueOptions(size=20))


async def wait_for_locks(table: Table, count: int) -> None:
    await table.wait_until(
        "select count(locked_by) = $1::integer from graphile_worker._private_jobs",
        count,
    )


@pytest.mark.parametrize("slots_and_size", [(1, 1), (10, 50), (3, 500)])
async def test_all_jobs_run_whatever_the_size(
    database: Database, client: Client, handlers: Handlers, slots_and_size: tuple[int, int]
) -> None:
    await client.add_raw_jobs([("quick", None)] * 100)
    concurrency, size = slots_and_size
    options = LocalQueueOptions(size=size)
    report = await make_prefetching_worker(
        database, handlers.tasks, concurrency=concurrency, local_queue=options
    ).run_once()
    assert report.completed == 100
    assert len({job.id for job in handlers.ended}) == 100
    assert await database.fetch_value("select count(*) from graphile_worker._private_jobs") == 0


async def test_slots_find_the_next_job_in_the_local_queue(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None)] * 30)
    async with trio.open_nursery() as nursery:
        worker = make_prefetching_worker(database, handlers.tasks)
        await nursery.start(worker.run)
        await handlers.wait_started(2)
        await wait_for_locks(table, 22)
        handlers.release.set()
        await handlers.wait_ended(30)
        worker.stop()


async def test_a_stop_gives_back_what_is_held_with_its_attempt(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None)] * 30)
    async with trio.open_nursery() as nursery:
        worker = make_prefetching_worker(
            database, handlers.tasks, shutdown=ShutdownOptions(grace_period=0.05)
        )
        await nursery.start(worker.run)
        await handlers.wait_started(2)
        await wait_for_locks(table, 22)
        worker.stop()
    assert len(handlers.started) == 2
    assert [(job["attempts"], job["locked_by"]) for job in await table.jobs()] == [(0, None)] * 30


async def test_what_nobody_takes_in_time_is_given_back_and_claimed_again_when_a_slot_asks(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None)] * 10)
    async with trio.open_nursery() as nursery:
        options = LocalQueueOptions(size=20, ttl=0.1)
        worker = make_prefetching_worker(database, handlers.tasks, local_queue=options)
        await nursery.start(worker.run)
        await handlers.wait_started(2)
        await wait_for_locks(table, 2)  # eight are available to others again
        assert sum(job["attempts"] == 0 for job in await table.jobs()) == 8
        handlers.release.set()
        await handlers.wait_ended(10)
        worker.stop()


async def test_prefetching_keeps_named_queues_serial_and_in_order(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    added = await client.add_raw_jobs(
        [("quick", None, JobSpec(queue_name=f"q{number % 3}")) for number in range(30)]
    )
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(make_prefetching_worker(database, handlers.tasks, concurrency=4).run_once)
    for queue in range(3):
        started = [job.id for job in handlers.started if job.queue_name == f"q{queue}"]
        assert started == [job.id for job in added if job.queue_name == f"q{queue}"]
    assert await table.jobs() == []


async def test_one_claim_holds_one_job_of_a_queue(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("held", None, JobSpec(queue_name="q"))] * 5 + [("held", None)] * 2)
    async with trio.open_nursery() as nursery:
        worker = make_prefetching_worker(database, handlers.tasks, concurrency=5)
        await nursery.start(worker.run)
        await handlers.wait_started(3)
        await wait_for_locks(table, 3)
        handlers.release.set()
        await handlers.wait_ended(7)
        worker.stop()


async def test_forbidden_flags_hold_for_prefetched_jobs_too(
    database: Database, client: Client, handlers: Handlers, table: Table
) -> None:
    await client.add_raw_jobs([("quick", None, JobSpec(flags=("a",)))] * 3 + [("quick", None)] * 3)
    report = await make_prefetching_worker(database, handlers.tasks, forbidden_flags=("a",)).run_once()
    assert report.completed == 3
    assert [job["attempts"] for job in await table.jobs()] == [0, 0, 0]


async def test_a_notification_ends_a_long_poll(
    database: Database, client: Client, handlers: Handlers
) -> None:
    async with trio.open_nursery() as nursery:
        worker = make_prefetching_worker(database, handlers.tasks)
        await nursery.start(worker.run)
        for count in (1, 2, 3):
            await client.add_raw_job("quick")
            await handlers.wait_ended(count)
        worker.stop()


async def test_enough_announced_jobs_end_a_refetch_delay_early(
    database: Database, client: Client, handlers: Handlers
) -> None:
    delay = RefetchDelayOptions(duration=NEVER, max_abort_threshold=3)
    options = LocalQueueOptions(size=20, refetch_delay=delay)
    async with trio.open_nursery() as nursery:
        worker = make_prefetching_worker(database, handlers.tasks, local_queue=options)
        await nursery.start(worker.run)
        for _ in range(5):
            await client.add_raw_job("quick")
        await handlers.wait_ended(3)
        worker.stop()


async def test_a_refetch_delay_does_not_hold_up_jobs_that_came(
    database: Database, client: Client, handlers: Handlers
) -> None:
    delay = RefetchDelayOptions(duration=NEVER, threshold=5)
    await client.add_raw_jobs([("quick", None)] * 3)
    async with trio.open_nursery() as nursery:
        options = LocalQueueOptions(size=20, refetch_delay=delay)
        worker = make_prefetching_worker(database, handlers.tasks, local_queue=options)
        await nursery.start(worker.run)
        await handlers.wait_ended(3)
        worker.stop()


async def test_what_a_claim_brings_across_a_lapse_of_the_lease_is_not_run(nursery: trio.Nursery) -> None:
    """Others may have had it, and let it go, before its answer was read."""
    answers = [[make_job(1), make_job(2)], [make_job(3)]]
    reconciled: list[list[Job]] = []

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        if len(answers) == 2:
            intake.prefetcher.lapsed()
        return answers.pop(0)

    async def reconcile() -> None:
        reconciled.append(list(ledger.snapshot()))

    ledger = Ledger()
    intake = Intake(claim, reconcile, ledger)
    await nursery.start(intake.prefetcher.run)
    job = await intake.queue.take()
    assert job is not None
    assert job.id == 3
    assert reconciled == [[]]  # the database says what of it is ours
    assert intake.recorder.returned == []
    assert [job.id for job in ledger.snapshot()] == [3]
    assert ledger.settled([job], {3}).lost == []
    assert not ledger.is_certain(trusts_server=True)


@pytest.mark.parametrize("queue_name", [None, "q"])
async def test_the_queue_of_a_job_that_others_took_is_looked_for_before_the_next_claim(
    nursery: trio.Nursery, queue_name: str | None
) -> None:
    """Whoever took the job may have ended it, and its queue is locked by us for nothing."""
    answers = [[attrs.evolve(make_job(1), queue_name=queue_name)], [make_job(2)]]
    reconciled: list[int] = []

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        return answers.pop(0)

    async def reconcile() -> None:
        await trio.lowlevel.checkpoint()
        reconciled.append(len(answers))

    ledger = Ledger()
    intake = Intake(claim, reconcile, ledger)
    await nursery.start(intake.prefetcher.run)
    assert (taken := await intake.queue.take()) is not None
    assert ledger.settled([taken], set()).lost == [taken]
    intake.announcements.add(1)
    assert (other := await intake.queue.take()) is not None
    assert other.id == 2
    assert reconciled == ([] if queue_name is None else [1])


async def test_only_what_a_claim_brought_and_is_known_leaves_no_doubt() -> None:
    answers, ledger = [[make_job(1)]], Ledger()
    certain: list[bool] = []

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        certain.append(ledger.is_certain(trusts_server=True))
        if not answers:
            raise StatementFailed("no such table", sqlstate="42P01")
        return answers.pop()

    intake = Intake(claim, ledger=ledger)
    with pytest.RaisesGroup(StatementFailed):
        async with trio.open_nursery() as nursery:
            await nursery.start(intake.prefetcher.run)
            job = await intake.queue.take()
            assert job is not None
            assert job is ledger.job(1)
            ledger.settled([job], {1})
            assert ledger.is_certain(trusts_server=True)
            intake.announcements.add(1)
            await intake.queue.take()
    assert certain == [False, False]
    assert not ledger.is_certain(trusts_server=True)


async def test_a_claim_that_is_cancelled_while_it_waits_for_its_turn_leaves_no_doubt() -> None:
    """An echo may be under way on its session. Else a stop at that moment would search the whole table."""

    async def claim(_limit: int) -> list[Job]:
        raise AssertionError("it was sent")

    ledger = Ledger()
    intake = Intake(claim, ledger=ledger)
    async with ledger.claiming, trio.open_nursery() as nursery:
        await nursery.start(intake.prefetcher.run)
        nursery.start_soon(intake.queue.take)
        await trio.testing.wait_all_tasks_blocked()
        assert ledger.claiming.statistics().tasks_waiting == 1
        nursery.cancel_scope.cancel()
    assert ledger.is_certain(trusts_server=True)


@pytest.mark.parametrize("is_taken_from_us", [False, True])
async def test_a_job_that_was_taken_before_it_ran_leaves_a_doubt(
    nursery: trio.Nursery, *, is_taken_from_us: bool
) -> None:
    """Its queue may still be locked by us."""
    jobs, ledger = [make_job(1), make_job(2)], Ledger()

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        return jobs

    intake = Intake(claim, ledger=ledger)
    await nursery.start(intake.prefetcher.run)
    assert await intake.queue.take() is jobs[0]
    intake.queue.drop([jobs[1]] if is_taken_from_us else [])
    assert (ledger.job(2) is None) == is_taken_from_us
    if not is_taken_from_us:
        assert await intake.queue.take() is jobs[1]
    ledger.settled(jobs[:1] if is_taken_from_us else jobs, {1, 2})
    assert ledger.is_empty
    assert ledger.is_certain(trusts_server=True) != is_taken_from_us


async def test_a_lapse_of_the_lease_gives_back_what_is_held(nursery: trio.Nursery) -> None:
    answers = [[make_job(1), make_job(2)], [make_job(3)]]

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        return answers.pop(0)

    intake = Intake(claim)
    await nursery.start(intake.prefetcher.run)
    assert (first := await intake.queue.take()) is not None
    assert first.id == 1
    intake.prefetcher.lapsed()
    assert [job.id for job in intake.recorder.returned] == [2]
    assert (second := await intake.queue.take()) is not None
    assert second.id == 3


async def test_what_a_slot_gives_back_is_claimed_once_the_lease_holds_again(nursery: trio.Nursery) -> None:
    """The slot may see that it does not hold while the lease is being renewed in time: it has not lapsed."""
    answers = [[make_job(1), make_job(2)], [make_job(2)]]

    async def claim(_limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        return answers.pop(0)

    intake = Intake(claim, size=10)
    await nursery.start(intake.prefetcher.run)
    assert (first := await intake.queue.take()) is not None
    assert first.id == 1
    taken: list[Job | None] = []

    async def take() -> None:
        taken.append(await intake.queue.take())

    intake.term.begin(-math.inf)
    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()
    assert [job.id for job in intake.recorder.returned] == [2]
    intake.term.begin(intake.term.now())
    intake.prefetcher.lease_renewed()
    await trio.testing.wait_all_tasks_blocked()
    assert [job.id for job in taken if job] == [2]


async def test_an_urgent_job_that_is_announced_is_next_although_much_is_held(nursery: trio.Nursery) -> None:
    """There is room for it as soon as one is taken; it is not kept for a claim of many."""
    urgent, limits, claimed_again = attrs.evolve(make_job(99), priority=-1), [], trio.Event()

    async def claim(limit: int) -> list[Job]:
        await trio.lowlevel.checkpoint()
        limits.append(limit)
        if len(limits) > 1:
            claimed_again.set()
            return [urgent]
        return [make_job(id_) for id_ in range(1, limit + 1)]

    intake = Intake(claim, size=10)
    taken: list[int] = []

    async def take() -> None:
        job = await intake.queue.take()
        assert job is not None
        taken.append(job.id)

    nursery.start_soon(take)
    await trio.testing.wait_all_tasks_blocked()  # the first claim is for this slot, too
    nursery.start_soon(intake.prefetcher.run)
    await trio.testing.wait_all_tasks_blocked()
    intake.announcements.add(1)
    await take()
    assert taken == [1, 2]
    with trio.fail_after(10):
        await claimed_again.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert limits == [11, 1]
    assert (third := await intake.queue.take()) is not None
    assert third.id == 99


def test_a_refetch_delay_longer_than_polling_is_refused() -> None:
    options = LocalQueueOptions(size=10, refetch_delay=RefetchDelayOptions(duration=3.0))
    with pytest.raises(OptionInvalid, match=r"refetch_delay.duration.*poll_interval"):
        WorkerOptions(poll_interval=2.0, local_queue=options)
    WorkerOptions(poll_interval=3.0, local_queue=options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"size": -1}, "size"),
        ({"size": 1_000_001}, "size"),
        ({"size": True}, "size"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": 300_000}, "ttl"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, float], name: str) -> None:
    with pytest.raises(OptionInvalid, match=name):
        LocalQueueOptions(**options)  # type: ignore[arg-type]
