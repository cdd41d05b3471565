"""Five jobs in four states."""

from __future__ import annotations

import attrs

from trio_graphile import Job


@attrs.frozen
class Five:
    """A failed, two regular, a locked and an unselected job."""

    failed: Job
    regular_1: Job
    regular_2: Job
    locked: Job
    untouched: Job

    @property
    def selected(self) -> list[int]:
        return [self.failed.id, self.regular_1.id, self.locked.id, self.regular_2.id]

    @property
    def changed(self) -> list[int]:
        return [self.failed.id, self.regular_1.id, self.regular_2.id]
