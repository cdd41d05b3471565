"""What a handler can raise to say what becomes of its job."""

from __future__ import annotations

from trio_graphile._model import handler_exceptions

SIGNALS = frozenset(
    value
    for value in vars(handler_exceptions).values()
    if isinstance(value, type) and value.__module__ == handler_exceptions.__name__
)
