"""Answers that the server gives by itself."""

from __future__ import annotations

import json
import re

import attrs
import h11

from trio_graphile.admin._headers import SECURITY_HEADERS


@attrs.frozen
class Refusal:
    """Why a request gets no answer of the application: a status and a sentence for its sender."""

    status: int
    text: str

    def body(self) -> bytes:
        """Return the JSON that stands for an error everywhere."""
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
    """Refuse a body, naming what would have been accepted."""
    return Refusal(413, f"the body of the request is larger than {limit} bytes")


def malformed(error: h11.RemoteProtocolError) -> Refusal:
    """Refuse what is no HTTP, by the status that h11 has for it.

    The sender is told which rule was broken, without the bytes that h11 shows with some of them.
    """
    if error.error_status_hint == HEAD_TOO_LARGE.status:
        return HEAD_TOO_LARGE
    rule = _SHOWN_BYTES.split(str(error))[0]
    return Refusal(error.error_status_hint, f"the request is malformed: {rule}")
