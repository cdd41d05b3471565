"""How many runs of a worker had which outcome."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Counts:
    """How many runs had which outcome."""

    completed: int = 0
    failed: int = 0
    returned: int = 0
    snoozed: int = 0
    removed: int = 0
    lost: int = 0
