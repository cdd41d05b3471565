"""Which jobs a worker may claim by their flags, asked before each claim."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.claims import FlagRules
from trio_graphile._model.failures import describe_error
from trio_graphile._model.options import Flags, WorkerOptions
from trio_graphile.hooks._raised import own_failure


async def flag_rules(options: WorkerOptions) -> FlagRules:
    """Ask what the options leave to functions. Raises what these raise, and `OptionInvalid`."""
    return FlagRules(
        await _asked("forbidden_flags", options.forbidden_flags) or (),
        await _asked("accepted_flags", options.accepted_flags),
        await _asked("allowed_flags", options.allowed_flags),
    )


async def _asked(option: str, flags: Flags | None) -> Sequence[str] | None:
    if not callable(flags):
        return flags
    try:
        chosen = flags()
        if inspect.isawaitable(chosen):
            chosen = await chosen
    except Exception:
        raise
    except BaseException as error:  # SystemExit, say, which is nothing that could be waited out
        reason = f"the function raised {describe_error(own_failure(error))}"
        raise OptionInvalid(option, reason) from error  # noqa: ASYNC104  # no cancellation
    if isinstance(chosen, str):
        raise OptionInvalid(option, f"flags are needed, not the one string {chosen!r}")
    return None if chosen is None else tuple(chosen)
