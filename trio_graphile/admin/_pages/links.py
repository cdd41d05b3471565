"""Addresses of pages. The address is the state: which page, which conditions, which part of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import attrs

_MOST_PAGES_BACK = 40


def link(root: str, path: str, **query: Any) -> str:
    """Return the address of a page below `root`; what is empty is left out of the query."""
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
    """Where in a list one is. Cursors lead onward alone: those of the pages before are kept."""

    after: str | None
    back: Sequence[str] = ()
    next: str | None = None

    def onward(self) -> dict[str, Any] | None:
        """Return what asks for the page that follows."""
        if self.next is None:
            return None
        passed = [*self.back, self.after] if self.after else [*self.back]
        return {"after": self.next, "back": passed[-_MOST_PAGES_BACK:]}

    def backward(self) -> dict[str, Any] | None:
        """Return what asks for the page before."""
        if not self.after:
            return None
        return {"after": self.back[-1], "back": [*self.back[:-1]]} if self.back else {}
