"""Reasons to refuse requests."""

from __future__ import annotations


class Refusal(Exception):  # an answer, not an error
    """A request is refused; the text tells its sender why."""

    status = 400

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Malformed(Refusal):
    """The request has no meaning."""


class Forbidden(Refusal):
    """The user may not do this."""

    status = 403


class Missing(Refusal):
    """The thing does not exist."""

    status = 404


class Conflicting(Refusal):
    """The request conflicts with the state of things."""

    status = 409


class TooLarge(Refusal):
    """The body of the request is over the limit."""

    status = 413


class WrongType(Refusal):
    """The body is something other than JSON."""

    status = 415


class Unavailable(Refusal):
    """The database does not answer, or not in time."""

    status = 503
