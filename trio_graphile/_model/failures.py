"""Failures: exceptions of handlers, as values for people and for the next attempt.

A text has the type, the message and the deepest place in the user's own code. It never shows a payload,
unless the handler's own message does.
"""

from __future__ import annotations

import enum
import functools
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

import attrs

from trio_graphile._model.delays import is_delay
from trio_graphile._model.groups import leaves
from trio_graphile._model.handler_exceptions import PermanentFailure, RetryAfter, Snooze

_MAX_ERROR_LENGTH = 10_000  # characters
_MAX_MESSAGE_LENGTH = 4_000  # characters
_OURS = "trio_graphile"


class Verdict(enum.Enum):
    """What becomes of a job whose handler raised."""

    RETRY = "retry"
    """The job is tried again, as its task says."""
    RETRY_AFTER = "retry after"
    """The job is tried again after the seconds that the handler gave."""
    SNOOZE = "snooze"
    """The job runs again after these seconds, and this attempt does not count."""
    PERMANENT = "permanent"
    """The job is not tried again."""


@attrs.frozen
class Failure:
    """The exception of a handler, as a value that can be sent to another process."""

    text: str
    """The text for `last_error`; never empty."""
    verdict: Verdict = Verdict.RETRY
    seconds: float = 0.0
    """The delay of a verdict that has one."""
    payload_json: str | None = attrs.field(default=None, repr=False)
    """The new payload of the job: the failed items of a batch."""
    trace: str = attrs.field(default="", repr=False)
    """The traceback of an exception in another process."""


def failure_of(error: BaseException, home: str | None = None) -> Failure:
    """Return an exception as a failure. `home` is the top-level package of the handler."""
    errors = list(leaves(error))
    verdict, seconds = verdict_of(errors)
    return Failure(describe_error(error, home), verdict, seconds)


def verdict_of(errors: Sequence[BaseException]) -> tuple[Verdict, float]:
    """Return the verdict of exceptions that were raised together.

    If all of them are the same signal (`Snooze` and the like), that signal counts. Mixed with other
    exceptions, or with an invalid delay, as a class of the user's may have, they are ordinary failures.
    """
    for signal, verdict in _VERDICTS.items():
        if all(isinstance(error, signal) for error in errors):
            delays = [getattr(error, "seconds", 0.0) for error in errors]
            return (verdict, max(delays)) if all(map(is_delay, delays)) else (Verdict.RETRY, 0.0)
    return Verdict.RETRY, 0.0


_VERDICTS: dict[type[Exception], Verdict] = {
    PermanentFailure: Verdict.PERMANENT,
    RetryAfter: Verdict.RETRY_AFTER,
    Snooze: Verdict.SNOOZE,
}


def describe_error(error: BaseException, home: str | None = None) -> str:
    """Return the text for `last_error`: an exception, or each one of a group.

    It is never empty, is cut to a length that people can read, and has nothing that PostgreSQL cannot store.
    """
    return storable("; ".join(_describe_leaf(leaf, home) for leaf in leaves(error)))


def storable(text: str) -> str:
    """Return a text as PostgreSQL can store it, cut to a length that people can read."""
    text = text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return _cut(text, _MAX_ERROR_LENGTH)


def format_trace(error: BaseException) -> str:
    """Return the traceback of an exception as text."""
    return "".join(traceback.format_exception(error)).rstrip()


def _describe_leaf(error: BaseException, home: str | None) -> str:
    name, text = type(error).__qualname__, _text_of(error)
    if not text and error.__cause__ is not None:
        text = f"{type(error.__cause__).__qualname__}: {_text_of(error.__cause__)}"
    described = f"{name}: {text}" if text else name
    place = _place_of(error.__traceback__, home)
    return f"{described} ({place})" if place else described


def _text_of(error: BaseException) -> str:
    try:
        return _cut(str(error), _MAX_MESSAGE_LENGTH)
    except BaseException:  # noqa: BLE001, ASYNC103  # a handler's own exception class may fail at this, too
        return "(its text could not be made)"  # noqa: ASYNC104  # no cancellation comes from a text


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _place_of(trace: TracebackType | None, home: str | None) -> str | None:
    """Return the deepest place in the user's own code, as `module:line in function`."""
    place = None
    while trace is not None:
        if is_users(trace.tb_frame, home):
            module = trace.tb_frame.f_globals.get("__name__", "?")
            module = "__main__" if module == "__mp_main__" else module  # its name elsewhere
            function = trace.tb_frame.f_code.co_qualname.rpartition("<locals>.")[2]
            place = f"{module}:{trace.tb_lineno} in {function}"
        trace = trace.tb_next
    return place


def is_users(frame: FrameType, home: str | None) -> bool:
    """Whether a frame is the user's own code: not ours or a library's, unless the handler is from there."""
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    if package == _OURS:
        return False
    file = frame.f_code.co_filename
    return package == home or not file.startswith(("<frozen", *_library_folders()))


@functools.cache
def _library_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {sysconfig.get_path(name) for name in names}
    return tuple({*found, *(str(Path(folder).resolve()) for folder in found)})
