"""Application state: values that a program lends to all its handlers, which find them by type."""

from __future__ import annotations

from typing import TypeVar

from trio_graphile._exceptions import OptionInvalid, StateMissing

T = TypeVar("T")


class State:
    """Several values, each of which handlers get by its type: `Worker(..., state=State(settings, mailer))`.

    All jobs of the worker share them. Raises `OptionInvalid` for two values of one type.
    """

    def __init__(self, *values: object) -> None:
        self._values = {type(value): value for value in values}
        if len(self._values) < len(values):
            names = ", ".join(type(value).__qualname__ for value in values)
            raise OptionInvalid("state", f"one value of each type is right, not {names}")

    def get(self, wanted: type[T]) -> T:
        """Return the value of exactly this type, or else the only value of a subclass.

        Raises `StateMissing`.
        """
        return find_state(self, wanted)

    def __repr__(self) -> str:
        return f"<State of {', '.join(kind.__qualname__ for kind in self._values) or 'nothing'}>"

    def _values_of(self, wanted: type[T]) -> list[T]:
        exact = self._values.get(wanted)
        if isinstance(exact, wanted):
            return [exact]
        return [value for value in self._values.values() if isinstance(value, wanted)]


def find_state(state: object, wanted: type[T]) -> T:
    """Return the value of a type in a worker's state, or that state itself. Raises `StateMissing`."""
    if isinstance(state, State):
        found = state._values_of(wanted)  # noqa: SLF001  # private to this module
    else:
        found = [state] if isinstance(state, wanted) else []
    if len(found) == 1:
        return found[0]
    name = getattr(wanted, "__qualname__", wanted)  # a union has none
    if not found:
        raise StateMissing(wanted, f"the worker has no {name}: make it with `Worker(..., state=State(...))`")
    kinds = " and ".join(type(value).__qualname__ for value in found)
    raise StateMissing(wanted, f"the worker has more than one {name}, {kinds}: ask for one of these")
