"""The rules of a claim: which jobs a worker may take, asked before each claim."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any

import trio

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._interceptors.raised import own_failure
from trio_graphile._model.backoff import backoff_delays
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.failures import describe_error
from trio_graphile._model.options import Flags, WorkerOptions
from trio_graphile._model.texts import flaw_of

logger = logging.getLogger("trio_graphile.worker")

_LONGEST_PAUSE = 5.0
"""The longest time until a function that failed is called again, in seconds."""


async def claim_rules(options: WorkerOptions) -> ClaimRules:
    """Call the functions among the flag options; call one that fails again until it returns.

    It may fail since a limiter is down, or since it has a bug. The worker claims no jobs until then, since it
    does not know which to leave to others. Raises `OptionInvalid` if a function raises something that is not
    an `Exception`.
    """
    return ClaimRules(
        forbidden_flags=await _asked("forbidden_flags", options.forbidden_flags) or (),
        accepted_flags=await _asked("accepted_flags", options.accepted_flags),
        allowed_flags=await _asked("allowed_flags", options.allowed_flags),
    )


async def _asked(option: str, flags: Flags | None) -> Sequence[str] | None:
    if not callable(flags):
        return flags
    for delay in backoff_delays(cap=_LONGEST_PAUSE):
        try:
            chosen = flags()
            return _checked(await chosen if inspect.isawaitable(chosen) else chosen)
        except Exception as error:  # noqa: BLE001  # a function of the user's may raise anything
            reason = describe_error(error)
        except BaseException as error:  # SystemExit, say: calling again would not help
            raised = f"the function raised {describe_error(own_failure(error))}"
            raise OptionInvalid(option, raised) from error  # noqa: ASYNC104  # no cancellation
        logger.error("no jobs are claimed: %s failed, next try in %.1f s: %s", option, delay, reason)
        await trio.sleep(delay)
    raise AssertionError("backoff_delays never ends")


def _checked(chosen: Any) -> Sequence[str] | None:
    if chosen is None:
        return None
    if isinstance(chosen, str):
        raise TypeError(f"flags are needed, not the one string {chosen!r}")
    flags = tuple(chosen)
    for flag in flags:
        if not isinstance(flag, str) or flaw_of(flag):
            raise TypeError(f"{flag!r} is no flag")
    return flags
