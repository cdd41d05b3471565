"""Logs a line for each change: user, action, jobs, and outcome."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

import attrs

logger = logging.getLogger("trio_graphile.admin.audit")

_MAX_VALUE_LENGTH = 200  # characters


@attrs.frozen
class Audit:
    """Writes to the logger `trio_graphile.admin.audit`: one line for each change, never a payload."""

    def record(self, user: str, action: str, ids: Sequence[int], outcome: Mapping[str, object]) -> None:
        """Write a line. Texts are JSON, so that none can end the line; long ones are cut."""
        logger.info(
            "user=%s action=%s ids=%s outcome=%s",
            _shown(user),
            _shown(str(action)),
            _shown([*ids]),
            _shown({key: value for key, value in outcome.items() if key != "payload"}),
        )


def _shown(value: object) -> str:
    return json.dumps(_cut(value), default=lambda other: str(other)[:_MAX_VALUE_LENGTH])


def _cut(value: object) -> object:
    match value:
        case str():
            return value if len(value) <= _MAX_VALUE_LENGTH else f"{value[:_MAX_VALUE_LENGTH]}…"
        case Mapping():
            return {str(key): _cut(item) for key, item in value.items()}
        case list() | tuple():
            return [_cut(item) for item in value]
        case _:
            return value
