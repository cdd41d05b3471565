"""The ending of a run: when it begins, and why. It cuts the start of the run short."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs
import trio

from trio_graphile._model.outcomes import StopCause


@attrs.define(eq=False)
class Ending:
    """Begins once, for the first cause that is given."""

    cause: StopCause = StopCause.CANCELLED
    """Defaults to `CANCELLED`: if nothing else begins the ending, the scope around the run was cancelled."""
    at: float = 0.0
    """When it began, by Trio's clock."""
    is_forced: bool = False
    """Whether handlers get no time to finish."""
    begun: trio.Event = attrs.field(factory=trio.Event)
    _scope: trio.CancelScope | None = None  # noqa: TID251  # to be cancelled by `begin`; never a shield

    def begin(self, cause: StopCause) -> None:
        """Begin to end."""
        if self.begun.is_set():
            return
        self.cause, self.at = cause, trio.current_time()
        self.begun.set()
        if self._scope is not None:
            self._scope.cancel()

    @contextlib.contextmanager
    def cuts_short(self) -> Iterator[None]:
        """Leave the body as soon as the ending begins, at once if it has. One body at a time."""
        with trio.CancelScope() as self._scope:  # noqa: TID251  # as above
            if self.begun.is_set():
                self._scope.cancel()
            yield
