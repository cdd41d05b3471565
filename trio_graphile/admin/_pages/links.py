"""Addresses of pages. An address holds the whole state: the page, its conditions, and the part of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import attrs

_MOST_PAGES_BACK = 40


def link(root: str, path: str, **query: Any) -> str:
    """Return the address of a page below `root`; empty values are left out of the query."""
    pairs = [
        (name, str(one))
        for name, value in query.items()
        if value is not None and value is not False
        for one in (value if isinstance(value, list | tuple) else [value])
        if str(one)
    ]
    return f"{root}/{path}" + (f"?{urlencode(pairs)}" if pairs else "")


@attrs.frozen(kw_only=True)
class Place:
    """A place in a list. Cursors lead only forward, so it keeps those of the pages before."""

    after: str | None
    back: Sequence[str] = ()
    next: str | None = None

    def onward(self) -> dict[str, Any] | None:
        """Return the query of the next page."""
        if self.next is None:
            return None
        passed = [*self.back, self.after] if self.after else [*self.back]
        return {"after": self.next, "back": passed[-_MOST_PAGES_BACK:]}

    def backward(self) -> dict[str, Any] | None:
        """Return the query of the previous page."""
        if not self.after:
            return None
        return {"after": self.back[-1], "back": [*self.back[:-1]]} if self.back else {}
