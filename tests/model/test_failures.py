"""What `last_error` says, and what an exception asks for."""

from __future__ import annotations

import json
import pickle
from json import JSONDecodeError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.signals import SIGNALS
from trio_graphile import OptionInvalid, PermanentFailure, RetryAfter, Snooze
from trio_graphile._model.failures import Verdict, describe_error, failure_of


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such user"), "ValueError: no such user"),
        (ValueError(), "ValueError"),
        (KeyError("name"), "KeyError: 'name'"),
        (Mute(), "Mute: (its text could not be made)"),
        (
            ExceptionGroup("g", [ValueError("a"), ExceptionGroup("h", [KeyError()])]),
            "ValueError: a; KeyError",
        ),
        (ValueError("nul \0 here"), r"ValueError: nul \0 here"),
        (ValueError("half \ud800 a pair"), r"ValueError: half \ud800 a pair"),
        (PermanentFailure("no such card"), "PermanentFailure: no such card"),
        (caused(PermanentFailure(), KeyError("card")), "PermanentFailure: KeyError: 'card'"),
        (caused(RetryAfter(5, "busy"), OSError("x")), "RetryAfter: busy"),
    ],
)
def test_an_error_is_described_by_type_and_text(error: BaseException, text: str) -> None:
    assert describe_error(error) == text


@given(st.text(max_size=20_000))
def test_a_description_is_never_empty_nor_too_long_nor_unfit_for_postgresql(text: str) -> None:
    described = describe_error(ValueError(text))
    assert 0 < len(described) <= 10_000
    assert "\0" not in described
    described.encode()


class Store:
    def look_up(self, name: str) -> str:
        return {"ada": "1815"}[name]

    def read(self, text: str) -> object:
        return json.loads(text)


def raised_by(call: object, *args: object) -> BaseException:
    assert callable(call)
    try:
        call(*args)
    except Exception as error:  # noqa: BLE001  # that is what it is for
        return error
    raise AssertionError("it raised nothing")


def test_the_deepest_place_in_the_users_own_code_is_named() -> None:
    in_users_code = raised_by(Store().look_up, "grace")
    assert describe_error(in_users_code) == (
        f"KeyError: 'grace' ({__name__}:{Store.look_up.__code__.co_firstlineno + 1} in Store.look_up)"
    )
    in_a_library = raised_by(Store().read, "{")
    assert isinstance(in_a_library, JSONDecodeError)
    line = Store.read.__code__.co_firstlineno + 1
    assert describe_error(in_a_library).endswith(f"({__name__}:{line} in Store.read)")


def test_a_library_is_the_users_own_code_if_the_handler_comes_from_it() -> None:
    error = raised_by(json.loads, "{")
    assert "(json.decoder:" in describe_error(error, home="json")
    assert "(json." not in describe_error(error, home="app")


def test_the_place_is_kept_where_the_message_is_cut() -> None:
    def fail() -> None:
        raise ValueError("long " * 5_000)

    text = describe_error(raised_by(fail))
    assert len(text) < 5_000
    assert text.endswith(" in fail)")


@pytest.mark.parametrize(
    ("error", "verdict", "seconds"),
    [
        (ValueError(), Verdict.RETRY, 0),
        (PermanentFailure("x"), Verdict.PERMANENT, 0),
        (RetryAfter(90), Verdict.RETRY_AFTER, 90),
        (Snooze(0), Verdict.SNOOZE, 0),
        (ExceptionGroup("", [Snooze(3), ExceptionGroup("", [Snooze(5)])]), Verdict.SNOOZE, 5),
        (ExceptionGroup("", [PermanentFailure(), PermanentFailure()]), Verdict.PERMANENT, 0),
        (ExceptionGroup("", [PermanentFailure(), RetryAfter(5)]), Verdict.RETRY, 0),
        (ExceptionGroup("", [Snooze(5), ValueError()]), Verdict.RETRY, 0),
    ],
)
def test_signals_count_alone_or_among_their_like(
    error: BaseException, verdict: Verdict, seconds: float
) -> None:
    failure = failure_of(error)
    assert (failure.verdict, failure.seconds) == (verdict, seconds)


def test_each_signal_has_a_verdict_of_its_own() -> None:
    raised = [PermanentFailure(), RetryAfter(1), Snooze(1)]
    assert set(map(type, raised)) == SIGNALS
    verdicts = {failure_of(error).verdict for error in raised}
    assert verdicts == set(Verdict) - {Verdict.RETRY}


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e12, "5", True, None])
def test_a_delay_that_no_job_can_wait_is_refused_where_it_is_raised(seconds: float) -> None:
    with pytest.raises(OptionInvalid, match="seconds"):
        raise Snooze(seconds)
    with pytest.raises(OptionInvalid, match="seconds"):
        raise RetryAfter(seconds)


def test_the_reason_may_be_the_exception_that_was_caught() -> None:
    reason: Any = ValueError("busy")
    error = RetryAfter(5, reason)
    assert describe_error(error) == "RetryAfter: busy"
    assert pickle.loads(pickle.dumps(error)).reason == "busy"


def test_signals_and_failures_can_be_sent_to_another_process() -> None:
    again = pickle.loads(pickle.dumps(RetryAfter(5, "busy")))
    assert (again.seconds, again.reason) == (5, "busy")
    assert pickle.loads(pickle.dumps(Snooze(7))).seconds == 7
    failure = failure_of(ValueError("x"))
    assert pickle.loads(pickle.dumps(failure)) == failure
