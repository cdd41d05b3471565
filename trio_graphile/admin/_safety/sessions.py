"""Sessions of browsers: a random identifier stands for a user who has logged in."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict

import attrs
import trio

_MOST_SESSIONS = 1000
_BYTES = 32


@attrs.define(eq=False)
class _Visit:
    user: str
    began_at: float
    seen_at: float
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False, kw_only=True)
class BrowserSessions:
    """The sessions, only in memory: a restart ends all of them. Times are seconds of any one clock.

    Identifiers are kept as digests, so that the time of a lookup reveals nothing about others.
    """

    _length: float
    _idle: float
    _visits: OrderedDict[bytes, _Visit] = attrs.field(init=False, factory=OrderedDict, repr=False)

    def begin(self, user: str, now: float, *, instead_of: str | None = None) -> str:
        """Return the identifier of a new session, and end the one that the browser had before.

        So an identifier that an attacker planted before the login is worthless.
        """
        if instead_of is not None:
            self.end(instead_of)
        identifier = secrets.token_urlsafe(_BYTES)
        self._visits[_digest(identifier)] = _Visit(user=user, began_at=now, seen_at=now)
        if len(self._visits) > _MOST_SESSIONS:
            _, oldest = self._visits.popitem(last=False)
            oldest.ended.set()
        return identifier

    def user_of(self, identifier: str, now: float) -> str | None:
        """Return the user of a session, if it has not ended, and note that it is used."""
        digest = _digest(identifier)
        visit = self._visits.get(digest)
        if visit is None:
            return None
        if now >= visit.began_at + self._length or now >= visit.seen_at + self._idle:
            self.end(identifier)
            return None
        visit.seen_at = now
        self._visits.move_to_end(digest)
        return visit.user

    def end(self, identifier: str) -> None:
        """End a session, if there is one."""
        visit = self._visits.pop(_digest(identifier), None)
        if visit is not None:
            visit.ended.set()

    def end_of(self, identifier: str) -> tuple[trio.Event, float]:
        """Return an event for the early end of a session, and its latest end. The session must exist."""
        visit = self._visits[_digest(identifier)]
        return visit.ended, visit.began_at + self._length


def _digest(identifier: str) -> bytes:
    return hashlib.sha256(identifier.encode(errors="surrogatepass")).digest()
