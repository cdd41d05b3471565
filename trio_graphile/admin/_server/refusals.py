"""Answers that the server itself gives."""

from __future__ import annotations

import json
import re

import attrs
import h11

from trio_graphile.admin._headers import SECURITY_HEADERS


@attrs.frozen
class Refusal:
    """The reason why a request does not reach the application: a status and a sentence for its sender."""

    status: int
    text: str

    def body(self) -> bytes:
        """Return the JSON form of errors."""
        return json.dumps({"error": self.text}).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of its answer."""
        return [
            *SECURITY_HEADERS,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(self.body())).encode()),
        ]


HEAD_TOO_SLOW = Refusal(408, "the headers of the request took too long")
BODY_TOO_SLOW = Refusal(408, "the body of the request took too long")
HEAD_TOO_LARGE = Refusal(431, "the headers of the request are too large")
TARGET_TOO_LONG = Refusal(414, "the address of the request is too long")
INTERNAL_ERROR = Refusal(500, "internal server error")

_SHOWN_BYTES = re.compile(r""":? (?:bytearray\(|b['"])""")


def body_too_large(limit: int) -> Refusal:
    """Refuse a body, naming the limit."""
    return Refusal(413, f"the body of the request is larger than {limit} bytes")


def malformed(error: h11.RemoteProtocolError) -> Refusal:
    """Refuse what is no HTTP, with the status that h11 gives it.

    The sender learns which rule was broken, without the bytes that h11 shows with some of them.
    """
    if error.error_status_hint == HEAD_TOO_LARGE.status:
        return HEAD_TOO_LARGE
    rule = _SHOWN_BYTES.split(str(error))[0]
    return Refusal(error.error_status_hint, f"the request is malformed: {rule}")
