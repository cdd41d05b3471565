"""What a claim may bring where tasks have bounds."""

from __future__ import annotations

from trio_graphile._model.bounds import Bound, Share, room_of, shares_of, used_of

A = Bound(2, frozenset({"a"}))
PROCESSES = Bound(3, frozenset({"a", "b", "c"}))


def test_tasks_share_a_claim_if_the_same_bounds_hold_for_them() -> None:
    assert shares_of(["x", "a", "b", "y", "c"], [A, PROCESSES]) == (
        Share(("x", "y")),
        Share(("a",), (A, PROCESSES)),
        Share(("b", "c"), (PROCESSES,)),
    )
    assert shares_of(["x", "y"], []) == (Share(("x", "y")),)
    assert shares_of([], [A]) == ()


def test_there_is_room_for_what_no_bound_forbids() -> None:
    used = used_of([A, PROCESSES], ["x", "a", "b", "x"])
    assert used == {A: 1, PROCESSES: 2}
    assert room_of(Share(("x",)), used, 10) == 10
    assert room_of(Share(("a",), (A, PROCESSES)), used, 10) == 1
    assert room_of(Share(("b",), (PROCESSES,)), used, 10) == 1
    assert room_of(Share(("b",), (PROCESSES,)), used, 0) == 0


def test_a_bound_that_was_lowered_leaves_no_room() -> None:
    assert room_of(Share(("a",), (A,)), {A: 5}, 10) == 0
