"""Suggestions for names that are not known."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def did_you_mean(name: str, known: Collection[str], *, otherwise: str | None = None) -> str:
    """Return what to append to a message about a name that is not known.

    That is the most similar known name. If none is similar, it is `otherwise`, which defaults to all known
    names.
    """
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f"; did you mean {close[0]}?"
    if otherwise is None and known:
        otherwise = f"there are {', '.join(known)}"
    return f"; {otherwise}" if otherwise else ""
