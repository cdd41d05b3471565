"""Stacks: where a thread is, to name a handler that blocks the event loop or does not end."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

from trio_graphile._model.failures import is_users
from trio_graphile._model.jobs import Job


def describe_block(thread: int, runner: CodeType) -> str:
    """Describe in which handler, and at which line, a thread is; `runner` is the code that calls handlers."""
    innermost = _frame_of(thread)
    frame = innermost
    handler: FrameType | None = None
    while frame is not None and frame.f_code is not runner:
        handler = frame if _is_foreign(frame) else handler
        frame = frame.f_back
    if innermost is None:
        return "(its thread is gone)"
    if frame is None:
        return f"outside of any handler, at {_place(innermost)}"
    job = frame.f_locals.get("job")
    name = f"job {job.id} ({job.task_identifier})" if isinstance(job, Job) else "a job"
    return f"by {name}, at {_place(handler or innermost)}"


def describe_place(thread: int, home: str) -> str:
    """Describe at which line of the user's own code a thread is, in the form that `last_error` has."""
    innermost = frame = _frame_of(thread)
    while frame is not None and not is_users(frame, home):
        frame = frame.f_back
    return "(its thread is gone)" if innermost is None else _place(frame or innermost)


def _frame_of(thread: int) -> FrameType | None:
    return sys._current_frames().get(thread)  # noqa: SLF001  # documented, underscore and all


def _is_foreign(frame: FrameType) -> bool:
    return not str(frame.f_globals.get("__name__", "")).startswith(("trio_graphile.", "trio."))


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_qualname}"
