"""Reads the parts of a page concurrently: one that takes too long is left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from trio_graphile._exceptions import SessionsBusy, StatementFailed

_OUT_OF_TIME = "57014"


@attrs.frozen
class Parts:
    """The parts that were read."""

    values: dict[str, Any]
    """The values by name; None for a part that took too long."""
    missing: tuple[str, ...]
    """The names of the parts that took too long."""


async def read_parts(**reads: Callable[[], Awaitable[object]]) -> Parts:
    """Read each part.

    Raises what reading a part raises, except that a statement or a session took too long.
    """
    values: dict[str, Any] = dict.fromkeys(reads)
    missing: list[str] = []
    failed: list[Exception] = []

    async def read(name: str, part: Callable[[], Awaitable[object]]) -> None:
        try:
            values[name] = await part()
        except StatementFailed as error:
            if error.sqlstate != _OUT_OF_TIME:
                failed.append(error)
            missing.append(name)
        except SessionsBusy:
            missing.append(name)
        except Exception as error:  # noqa: BLE001  # raised below, alone: a group would say no more
            failed.append(error)

    async with trio.open_nursery() as nursery:
        for name, part in reads.items():
            nursery.start_soon(read, name, part)
    if failed:
        raise failed[0]
    return Parts(values, tuple(name for name in reads if name in missing))
