"""What users' functions raise: their own failure, or what is not ours to swallow."""

from __future__ import annotations

import math

import trio

from trio_graphile._model.groups import leaves


def split_raised(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return what has failed, and what must go further: Trio's cancellation and `KeyboardInterrupt`.

    Everything else is a failure: `SystemExit`, asyncio's cancellation, and a `trio.Cancelled` from elsewhere,
    which is raised though nothing around us is cancelled.
    """
    further = [leaf for leaf in leaves(error) if _goes_further(leaf)]
    failures = [leaf for leaf in leaves(error) if not _goes_further(leaf)]
    if not further:
        return error, None
    if not failures:
        return None, error
    # Not by the group's own `split`, which may be the user's, too.
    return BaseExceptionGroup("beside others", failures), BaseExceptionGroup("beside others", further)


def own_failure(error: BaseException) -> BaseException:
    """Return what has failed; raise instead if something must go further."""
    failure, further = split_raised(error)
    if failure is None or further is not None:
        raise further or error from None
    return failure


def is_cancellation(error: BaseException) -> bool:
    """Whether an exception, or a group, is made of nothing but Trio's cancellation."""
    return all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error))


def _goes_further(error: BaseException) -> bool:
    match error:
        case KeyboardInterrupt():
            return True
        case trio.Cancelled():
            return trio.current_effective_deadline() == -math.inf
        case GeneratorExit():
            return (
                not trio.lowlevel.in_trio_task()
            )  # Trio has crashed, and what was left of it is thrown away
        case _:
            return False
