"""Requests that are not served, and why."""

from __future__ import annotations


class Refusal(Exception):  # it is answered, not raised to anybody
    """A request is not served; the text says why to whoever asked."""

    status = 400

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Malformed(Refusal):
    """The request says nothing that could be done."""


class Forbidden(Refusal):
    """Whoever asks may not do this."""

    status = 403


class Missing(Refusal):
    """There is no such thing."""

    status = 404


class Conflicting(Refusal):
    """It cannot be done as things stand."""

    status = 409


class TooLarge(Refusal):
    """The request's body is over the limit."""

    status = 413


class WrongType(Refusal):
    """The body is something other than JSON."""

    status = 415


class Unavailable(Refusal):
    """The database does not answer, or not in time."""

    status = 503
