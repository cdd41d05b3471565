"""The pace: how many rows are written at a time."""

from __future__ import annotations

from trio_graphile._model.pace import LARGEST_BATCH_SIZE, Pace


def test_a_batch_that_fails_is_halved_down_to_one_row() -> None:
    pace = Pace()
    pace.failed(100)
    assert pace.size == 50
    pace.failed(1)
    assert pace.size == 1


def test_it_grows_back_while_full_batches_are_quick() -> None:
    pace = Pace(size=1)
    for _ in range(20):
        pace.wrote(pace.size, 0.01)
    assert pace.size == LARGEST_BATCH_SIZE


def test_what_takes_its_time_stays_as_large_as_it_is() -> None:
    """So a server that is slow is not asked for too much after each batch that it wrote."""
    pace = Pace(size=100)
    pace.wrote(100, 0.6)
    assert pace.size == 100
    pace.wrote(10, 0.01)  # few because there were no more
    assert pace.size == 100


def test_a_slow_batch_is_halved_before_it_fails() -> None:
    pace = Pace()
    pace.wrote(800, 5.0)
    assert pace.size == 400


def test_caution_begins_with_few_and_never_with_more_than_before() -> None:
    pace, slow = Pace(), Pace(size=3)
    for one in (pace, slow):
        one.be_cautious()
    assert 1 < pace.size < 100
    assert slow.size == 3
