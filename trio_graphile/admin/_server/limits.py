"""The limits for clients of the server."""

from __future__ import annotations

import attrs

from trio_graphile._model.validators import seconds, whole_number


@attrs.frozen(kw_only=True)
class ServerLimits:
    """How much a client may send, and how long it may take. Durations are seconds. Raises `OptionInvalid`.

    Request bodies are read whole before the application is called. All of them together need at most
    `connections` times `body_size` bytes.
    """

    head_size: int = attrs.field(default=16_384, validator=whole_number(1024, 1_048_576))
    """How many bytes the first line and the headers of a request may have, else 431."""
    target_size: int = attrs.field(default=8192, validator=whole_number(64, 1_048_576))
    """How many bytes path and query of a request may have, else 414."""
    head_timeout: float = attrs.field(default=10.0, validator=seconds(3600))
    """How long a request may take from its first byte to the end of its headers, else 408; and a TLS
    handshake."""
    body_size: int = attrs.field(default=1_048_576, validator=whole_number(0, 1_073_741_824))
    """How many bytes the body of a request may have, else 413."""
    body_timeout: float = attrs.field(default=30.0, validator=seconds(3600))
    """How long the body of a request may take, else 408."""
    send_timeout: float = attrs.field(default=10.0, validator=seconds(3600))
    """How long a client may take to accept 64 KiB of an answer before it is disconnected."""
    idle_timeout: float = attrs.field(default=30.0, validator=seconds(86_400))
    """How long a connection may be open without a request."""
    connections: int = attrs.field(default=100, validator=whole_number(1, 1_000_000))
    """How many connections are served at once; further ones wait to be accepted."""
    grace_period: float = attrs.field(default=5.0, validator=seconds(86_400, zero=True))
    """How long current requests may go on after a stop."""
    farewell_period: float = attrs.field(default=1.0, validator=seconds(3600, zero=True))
    """How long an event stream may take to end by itself after a stop, within the grace period."""
