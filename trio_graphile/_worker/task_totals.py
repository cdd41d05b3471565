"""Task totals: how many runs of each task there were since the worker started, and how long they took."""

from __future__ import annotations

import attrs

from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Completed, Failed, Outcome, Settled

_LONGEST = 1e9
"""The longest wait that counts, in seconds: that of a job whose time is minus infinity does not."""

_MOST_TASKS = 1000
"""How many tasks have a total of their own: all are part of every heartbeat."""
OTHER_TASKS = "(other tasks)"


@attrs.define(eq=False)
class TaskTotal:
    """The runs of one task. Durations are seconds."""

    runs: int = 0
    """How many have succeeded or failed."""
    failures: int = 0
    run: float = 0.0
    """The sum of their durations."""
    longest_run: float = 0.0
    wait: float = 0.0
    """The sum of the times for which their jobs had been due when they were claimed."""
    longest_wait: float = 0.0

    def as_dict(self) -> dict[str, float]:
        """Return the total in the form that heartbeats have."""
        return {
            "runs": self.runs,
            "failures": self.failures,
            "run_seconds": round(self.run, 6),
            "run_max": round(self.longest_run, 6),
            "wait_seconds": round(self.wait, 6),
            "wait_max": round(self.longest_wait, 6),
        }


@attrs.define(eq=False)
class TaskTotals:
    """The totals of the first 1,000 tasks, and one total of all others.

    The worker's thread adds to them while the lease's thread may read them.
    """

    _by_task: dict[str, TaskTotal] = attrs.field(init=False, factory=dict)

    def add(self, job: Job, seconds: float, outcome: Outcome) -> None:
        """Count a run that took `seconds`, unless it was interrupted."""
        kind = type(outcome)
        if kind is not Completed and kind is not Failed and kind is not Settled:
            return
        try:
            total = self._by_task[job.task_identifier]
        except KeyError:
            total = self._another(job.task_identifier)
        total.runs += 1
        total.run += seconds
        if seconds > total.longest_run:  # noqa: PLR1730  # half as long as `max`
            total.longest_run = seconds
        if kind is Failed:
            total.failures += 1
        waited = job.waited
        if 0.0 < waited < _LONGEST:
            total.wait += waited
            if waited > total.longest_wait:  # noqa: PLR1730  # as above
                total.longest_wait = waited

    def _another(self, identifier: str) -> TaskTotal:
        if len(self._by_task) >= _MOST_TASKS:
            identifier = OTHER_TASKS
        return self._by_task.setdefault(identifier, TaskTotal())

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return the totals by task, in the form that heartbeats have. From any thread."""
        return {identifier: total.as_dict() for identifier, total in list(self._by_task.items())}
