"""Cursors: places from which a list goes on, as text. No I/O.

A cursor holds only numbers, and one that somebody makes up only begins the list elsewhere.
"""

from __future__ import annotations

import re

import attrs

from trio_graphile._exceptions import OptionInvalid
from trio_graphile._model.jobs import BIGINT
from trio_graphile._model.listing import JobOrder

MOST_SKIPPED_JOBS = 10_000  # by one cursor

_LETTERS = {
    JobOrder.OLDEST: "o",
    JobOrder.NEWEST: "n",
    JobOrder.NEXT_RUN: "r",
    JobOrder.LATEST_FAILURE: "f",
}
_ORDERS = {letter: order for order, letter in _LETTERS.items()}
_FORM = re.compile(r"([onrf])(i?)(b?)((?:_-?[0-9]{1,19}){2,4})")
_PRIORITY = range(-(2**15), 2**15)
_EARLIEST, _LATEST = BIGINT.start, BIGINT.stop - 1
_TIME = range(-211_813_488_000_000_000, 9_223_371_331_200_000_000)
"""The times that PostgreSQL can hold, in microseconds since 2000. Its infinities are the ends of 64 bits."""


@attrs.frozen(kw_only=True)
class Place:
    """The place of a job in an order. Fields that do not count for the order are 0."""

    id: int
    run_at: int = 0
    """Microseconds since 2000, as PostgreSQL stores them; exact for every time that it has."""
    priority: int = 0


@attrs.frozen(kw_only=True)
class Cursor:
    """A place after or before which a list goes on."""

    order: JobOrder
    by_id: bool = True
    """Whether the jobs are sorted by id: in such an order, or because no other is possible."""
    is_backward: bool = False
    place: Place
    skip: int = 0
    """How many of the jobs found there are skipped."""

    def encode(self) -> str:
        """Return the text that `decode` reads."""
        place = self.place
        numbers = [place.id] if self.by_id else [place.id, place.run_at]
        if not self.by_id and self.order is JobOrder.NEXT_RUN:
            numbers.append(place.priority)
        flags = ("i" if self.by_id else "") + ("b" if self.is_backward else "")
        return _LETTERS[self.order] + flags + "".join(f"_{number}" for number in [self.skip, *numbers])


def decode(text: str, order: JobOrder) -> Cursor:
    """Return the cursor in a text, for a list in `order`. Raises `OptionInvalid` for other texts."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise OptionInvalid("after", "this is no place in a list: give `next` or `previous` of a page")
    skip, id_, *rest = [int(number) for number in match[4].split("_")[1:]]
    cursor = Cursor(
        order=_ORDERS[match[1]],
        by_id=bool(match[2]),
        is_backward=bool(match[3]),
        place=Place(id=id_, **dict(zip(("run_at", "priority"), rest, strict=False))),
        skip=skip,
    )
    if not _is_possible(cursor) or cursor.encode() != text:
        raise OptionInvalid("after", "this is no place in a list: give `next` or `previous` of a page")
    if cursor.order is not order:
        raise OptionInvalid("after", f"this is a place in the order {cursor.order}, not in {order}")
    return cursor


def _is_possible(cursor: Cursor) -> bool:
    place = cursor.place
    return (
        place.id in BIGINT
        and place.priority in _PRIORITY
        and (place.run_at in _TIME or place.run_at in {_EARLIEST, _LATEST})
        and cursor.skip in range(MOST_SKIPPED_JOBS + 1)
        and (cursor.by_id or cursor.order in {JobOrder.NEXT_RUN, JobOrder.LATEST_FAILURE})
    )
