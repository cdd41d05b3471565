"""The error of a run: what `Worker.run` raises when several things ended it."""

from __future__ import annotations

import pytest
import trio

from trio_graphile import ShutdownIncomplete, WorkerCrashed
from trio_graphile._worker.run_error import Unwritten, run_error_of

UNWRITTEN = Unwritten((1, 2), "no answer")


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("a nest", [BaseExceptionGroup("inside", errors)])


async def cancellation() -> trio.Cancelled:
    with trio.move_on_after(0):
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            found = cancelled
            raise
    return found  # type: ignore[possibly-undefined]  # mypy does not know where the scope is left


def test_nothing_is_no_error() -> None:
    assert run_error_of(None, None, "w") is None


async def test_a_cancellation_has_none_unless_jobs_are_unwritten() -> None:
    cancelled = await cancellation()
    assert run_error_of(cancelled, None, "w") is None
    assert run_error_of(group(cancelled), None, "w") is None
    found = run_error_of(group(cancelled), UNWRITTEN, "w")
    assert isinstance(found, ShutdownIncomplete)
    assert (found.job_ids, found.reason) == ((1, 2), "not all was recorded: no answer")


@pytest.mark.parametrize("error", [LookupError("broken"), GeneratorExit("broken")])
async def test_what_is_no_decision_is_a_crash(error: BaseException) -> None:
    found = run_error_of(group(await cancellation(), error), None, "w")
    assert isinstance(found, WorkerCrashed)
    assert str(found) == f"{type(error).__name__}: broken"


def test_several_crashes_are_one() -> None:
    found = run_error_of(group(LookupError("a"), ValueError("b")), None, "w")
    assert str(found) == "LookupError: a; ValueError: b"


@pytest.mark.parametrize("decision", [KeyboardInterrupt(), SystemExit(3)])
def test_a_decision_to_end_the_program_is_raised_as_it_is(decision: BaseException) -> None:
    assert run_error_of(group(LookupError("a"), decision), None, "w") is decision


@pytest.mark.parametrize("decision", [KeyboardInterrupt(), SystemExit(3)])
def test_a_decision_and_unwritten_jobs_are_both_raised(decision: BaseException) -> None:
    found = run_error_of(group(decision), UNWRITTEN, "w")
    assert isinstance(found, BaseExceptionGroup)
    assert found.exceptions[0] is decision
    assert isinstance(found.exceptions[1], ShutdownIncomplete)
    assert found.exceptions[1].job_ids == (1, 2)


def test_unwritten_jobs_tell_of_the_crash_as_well() -> None:
    found = run_error_of(group(LookupError("a")), UNWRITTEN, "w")
    assert isinstance(found, ShutdownIncomplete)
    assert found.job_ids == (1, 2)
    assert "no answer; before that the worker had crashed: LookupError: a" in str(found)
