"""The recorder: what it writes together, what it does when a write fails, and that it rests in between."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.jobs import make_job
from tests.worker.rows import Rows
from trio_graphile import ConnectionLost, DatabaseError, StatementFailed
from trio_graphile._model.outcomes import Completed, Failed, Outcome, Returned


async def test_what_arrives_during_a_write_leaves_together_in_the_next(nursery: trio.Nursery) -> None:
    rows = Rows()
    outcomes = rows.recorder()
    arriving = [2, 3, 4]

    def arrive() -> None:
        while arriving:
            outcomes.put(Completed(make_job(arriving.pop(0))))

    rows.before_write = arrive
    await nursery.start(outcomes.run)
    outcomes.put(Completed(make_job(1)))
    await trio.testing.wait_all_tasks_blocked()
    assert rows.written == [("completed", [1]), ("completed", [2, 3, 4])]


async def test_the_recorder_rests_when_all_is_written(nursery: trio.Nursery) -> None:
    """Also when an outcome of one kind came while one of another was being written."""
    rows = Rows()
    outcomes = rows.recorder()
    await nursery.start(outcomes.run)
    for late in (Failed(make_job(2), "no"), Returned(make_job(3)), Completed(make_job(4))):
        pending: list[Outcome] = [late]

        def arrive(pending: list[Outcome] = pending) -> None:
            while pending:
                outcomes.put(pending.pop())

        rows.before_write = arrive
        outcomes.put(Completed(make_job(1)))
        with trio.fail_after(5):
            await trio.testing.wait_all_tasks_blocked()


async def test_a_write_that_fails_in_passing_is_repeated(nursery: trio.Nursery) -> None:
    rows = Rows(errors=[StatementFailed("deadlock", sqlstate="40P01"), ConnectionLost("gone")])
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    with trio.fail_after(10):
        await outcomes.flush()
    assert rows.written == [("completed", [1])]
    assert outcomes.counts.completed == 1


async def test_a_write_whose_fate_was_unknown_is_not_called_lost_when_repeated() -> None:
    rows = Rows(errors=[ConnectionLost("after the commit")], stolen={1})
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    await outcomes.flush()
    assert (outcomes.counts.completed, outcomes.counts.lost) == (1, 0)


async def test_a_completion_whose_fate_was_unknown_did_not_happen_if_its_row_is_there() -> None:
    rows = Rows(errors=[ConnectionLost("before the commit")], stolen={1, 2}, left={1})
    outcomes = rows.recorder()
    for id_ in (1, 2, 3):
        outcomes.put(Completed(make_job(id_)))
    await outcomes.flush()
    assert (outcomes.counts.completed, outcomes.counts.lost) == (2, 1)


async def test_what_was_given_back_may_have_been_though_its_row_is_there() -> None:
    rows = Rows(errors=[ConnectionLost("after the commit")], stolen={1}, left={1})
    outcomes = rows.recorder()
    outcomes.put(Returned(make_job(1)))
    await outcomes.flush()
    assert (outcomes.counts.returned, outcomes.counts.lost) == (1, 0)


async def test_a_look_for_what_is_left_that_is_cancelled_takes_nothing_from_what_is_written() -> None:
    rows = Rows(stolen={3}, left={3})
    outcomes = rows.recorder()
    for id_ in (1, 2, 3):
        outcomes.put(Returned(make_job(id_)), maybe_completed=id_ == 3)
    with trio.CancelScope() as scope:  # noqa: TID251  # cancelled, not shielded
        rows.before_look = scope.cancel
        await outcomes.flush()
    assert scope.cancelled_caught
    rows.stolen |= {1, 2}  # they were given back, and are not ours any more
    await outcomes.flush()
    assert (outcomes.counts.returned, outcomes.counts.lost) == (2, 1)


@pytest.mark.parametrize("error", [StatementFailed("timeout", sqlstate="57014"), ConnectionLost("gone")])
async def test_a_look_for_what_is_left_that_is_refused_takes_nothing_from_what_is_written(
    caplog: pytest.LogCaptureFixture, error: DatabaseError
) -> None:
    rows = Rows(errors=[ConnectionLost("after the commit")], stolen={1}, left={1})
    rows.look_error = error
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    outcomes.put(Completed(make_job(2)))
    await outcomes.flush()
    assert (outcomes.counts.completed, outcomes.counts.lost) == (2, 0)
    assert f"looking for jobs that may be completed failed: {error}" in caplog.text


async def test_an_outcome_in_doubt_stays_so_though_the_next_try_was_cancelled() -> None:
    rows = Rows(errors=[ConnectionLost("after the commit")], stolen={1})
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    with trio.move_on_after(0) as scope:
        await outcomes.flush()
    assert scope.cancelled_caught
    await outcomes.flush()
    assert (outcomes.counts.completed, outcomes.counts.lost) == (1, 0)


async def test_a_batch_that_is_refused_is_written_apart_and_the_culprit_as_failed() -> None:
    rows = Rows(poison=3)
    outcomes = rows.recorder()
    for id_ in range(1, 6):
        outcomes.put(Completed(make_job(id_)))
    await outcomes.flush()
    assert {id_ for what, ids in rows.written for id_ in ids if what == "completed"} == {1, 2, 4, 5}
    assert [ids for what, ids in rows.written if what == "failed"] == [[3]]
    assert (outcomes.counts.completed, outcomes.counts.failed, outcomes.counts.lost) == (4, 1, 0)


async def test_a_batch_that_takes_too_long_is_written_in_smaller_ones(nursery: trio.Nursery) -> None:
    """What was learned about their size is remembered."""
    rows = Rows(most_at_once=10)
    outcomes = rows.recorder()
    for id_ in range(1, 1001):
        outcomes.put(Completed(make_job(id_)))
    await outcomes.flush()
    assert sorted(id_ for _, ids in rows.written for id_ in ids) == list(range(1, 1001))
    assert outcomes.counts.completed == 1000
    assert len(rows.written) < 400


async def test_an_outcome_that_nobody_takes_keeps_no_other_from_being_written(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays, said once, and is tried again until it is taken."""
    rows = Rows(refused={3})
    outcomes = rows.recorder()
    for id_ in range(1, 6):
        outcomes.put(Completed(make_job(id_)))
    await outcomes.flush()
    await outcomes.flush()
    assert {id_ for _, ids in rows.written for id_ in ids} == {1, 2, 4, 5}
    assert (outcomes.waiting, list(outcomes.refused)) == (1, [3])
    assert sum("cannot be recorded" in record.message for record in caplog.records) == 1
    rows.refused.clear()
    await nursery.start(outcomes.run)
    await trio.sleep(10)
    assert (outcomes.counts.completed, outcomes.counts.failed, dict(outcomes.refused)) == (5, 0, {})


async def test_a_look_whose_fault_a_refusal_is_may_take_too_long_itself() -> None:
    """An empty write tells; if it is not answered in time, the outcome is tried again later."""
    rows = Rows()
    rows.errors += [
        StatementFailed("not this one", sqlstate="P0001"),
        StatementFailed("canceling statement due to statement timeout", sqlstate="57014"),
    ]
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    await outcomes.flush()
    assert (outcomes.counts.completed, outcomes.counts.failed, dict(outcomes.refused)) == (1, 0, {})


async def test_a_refused_outcome_of_a_job_that_was_taken_and_came_back_is_dropped() -> None:
    """It is not written over the new run."""
    rows = Rows(refused={1}, stolen={1})
    outcomes = rows.recorder()
    old, new = make_job(1), make_job(1)
    rows.claim(old)
    outcomes.put(Completed(old))
    await outcomes.flush()
    rows.claim(new)
    rows.refused.clear()
    await outcomes.flush()
    assert [ids for _, ids in rows.written if ids] == []
    assert outcomes.counts.lost == 1
    assert rows.ledger.job(1) is new


async def test_completions_and_failures_may_wait_for_company_what_is_given_back_does_not(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    rows = Rows()
    outcomes = rows.recorder(complete_delay=2.0, fail_delay=1.0)
    await nursery.start(outcomes.run)
    outcomes.put(Completed(make_job(1)))
    outcomes.put(Failed(make_job(2), "no"))
    outcomes.put(Returned(make_job(3)))
    await trio.sleep(0.5)
    outcomes.put(Completed(make_job(4)))
    assert rows.written == [("returned", [3])]
    await trio.sleep(1.0)
    assert rows.written[1:] == [("failed", [2])]
    await trio.sleep(1.0)
    assert rows.written[2:] == [("completed", [1, 4])]


async def test_a_job_that_is_not_ours_any_more_is_counted_as_lost() -> None:
    rows = Rows(stolen={2})
    outcomes = rows.recorder()
    for id_ in (1, 2):
        outcomes.put(Completed(make_job(id_)))
    await outcomes.flush()
    assert (outcomes.counts.completed, outcomes.counts.lost) == (1, 1)


async def test_an_error_that_does_not_pass_is_raised_and_the_outcomes_stay() -> None:
    """It is everybody's fault if not even an empty batch is taken."""
    missing = StatementFailed("no such table", sqlstate="42P01")
    rows = Rows(errors=[missing, missing])
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    with pytest.raises(StatementFailed):
        await outcomes.flush()
    await outcomes.flush()
    assert rows.written == [("completed", [1])]


async def test_a_cancelled_flush_leaves_what_it_did_not_write() -> None:
    rows = Rows()
    outcomes = rows.recorder()
    outcomes.put(Completed(make_job(1)))
    outcomes.put(Failed(make_job(2), "no"))
    with trio.move_on_after(0):
        await outcomes.flush()
    assert rows.written == []
    await outcomes.flush()
    assert rows.written == [("completed", [1]), ("failed", [2])]


async def test_a_recorded_job_is_forgotten_unless_it_was_claimed_again() -> None:
    rows = Rows()
    outcomes = rows.recorder()
    old, again, other = make_job(1), make_job(1), make_job(2)
    rows.claim(again, other)
    outcomes.put(Completed(old))
    outcomes.put(Completed(other))
    await outcomes.flush()
    [held] = rows.ledger.snapshot()
    assert held is again


async def test_the_freeing_of_a_queue_is_announced() -> None:
    rows = Rows()
    outcomes = rows.recorder()
    announced: list[int] = []
    for queue_name in (None, "q"):
        outcomes.put(Completed(make_job(1, queue_name=queue_name)))
        await outcomes.flush()
        announced.append(rows.announcements.jobs)
    assert announced == [0, 1]


async def test_slots_pause_while_too_many_outcomes_wait_and_all_go_on(nursery: trio.Nursery) -> None:
    outcomes, gone_on = Rows().recorder(), list[int]()
    for id_ in range(5000):
        outcomes.put(Completed(make_job(id_)))

    async def slot(number: int) -> None:
        await outcomes.wait_for_room()
        gone_on.append(number)

    for number in range(8):
        nursery.start_soon(slot, number)
    await trio.testing.wait_all_tasks_blocked()
    assert gone_on == []
    await outcomes.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(gone_on) == list(range(8))


async def test_slots_that_wait_for_room_look_again_whether_there_is_some(nursery: trio.Nursery) -> None:
    rows, gone_on = Rows(), trio.Event()
    outcomes = rows.recorder()

    def fill() -> None:
        for id_ in range(5000):
            outcomes.put(Returned(make_job(id_)))

    async def slot() -> None:
        await outcomes.wait_for_room()
        gone_on.set()

    fill()
    rows.before_write = fill  # as much comes as is written
    nursery.start_soon(slot)
    await trio.testing.wait_all_tasks_blocked()
    with trio.move_on_after(0.05):
        await outcomes.flush()
    assert not gone_on.is_set()
    rows.before_write = lambda: None
    await outcomes.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert gone_on.is_set()
