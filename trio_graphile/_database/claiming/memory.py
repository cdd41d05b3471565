"""What a worker remembers of its claims, so that the next one costs the server less.

It never decides whether a job is claimed, only how jobs are looked for, and what is left out is looked for
seconds later: what is remembered may be wrong by now.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from operator import attrgetter

import attrs

from trio_graphile._database.claiming.look_back import LookBack, Part, Position
from trio_graphile._model.instants import moved
from trio_graphile._model.jobs import Job

SLOW_CLAIM_SECONDS = 0.02
"""A claim that takes longer is slow. One may be so by chance; the second in a row is for a reason."""
LARGE_CLAIM_JOBS = 20
"""A claim that brings so many is measured by what each took: how long is long depends on their number."""
LARGE_CLAIM_SECONDS_PER_JOB = 0.0005
"""What is taken for its best at first: a worker that starts among many dead rows knows no quick claim."""
LARGE_CLAIM_LONG_FACTOR = 2.0
"""It took long if each job took so many times as long as one has taken at best, ..."""
LARGE_CLAIM_QUICK_SECONDS = 0.005
"""... unless all of them together took no longer than this."""

START_MARGIN_SECONDS = 1.0
"""A start is so much earlier than the job that it was found by: another transaction may have begun before the
one that added this job, and end after it."""
MANY_DEAD_ROWS = 50_000
"""A start is remembered only if there are so many to step over, which takes 8 to 15 ms. On a busy machine
claims are slow for other reasons, too, and jobs that a stopping worker gives back are before the start."""
QUICK_ROUND_SECONDS = 0.05
"""And not if the dead rows of a whole look back took less: to look everywhere at once takes no longer."""

PROBE_INTERVAL_SECONDS = 1.0
"""How often it is asked whether a plain claim is enough, and for how long that is believed."""
BUSY_SECONDS = 0.5
"""Who got jobs so recently claims often, and saves more by asking than that takes."""

WIDE_FACTOR = 10
"""How many times as far as usual to look for jobs of named queues, after two slow claims in a row."""
WIDE_SECONDS = 10.0
"""For how long to do so."""


class PlainClaim(enum.StrEnum):
    """A claim that takes what the whole one would, for less, where no job of a named queue is to be had."""

    IN_HEAD = "in_head"
    """Where the jobs at the head are ours to claim."""
    PAST_HEAD = "past_head"
    """Where the head is blocked, and jobs of few tasks and priorities wait behind it."""


@attrs.define
class ClaimMemory:
    """What was learned of the jobs of some tasks: where they start, and which claim is enough.

    - **Start.** While any transaction on the server is older than they are, the traces of jobs that are gone
      stay in the index, and each claim steps over all of them. So after two claims in a row that took long,
      the next ones look from the best job on that was found last, and at what is before it part by part
      (`look_back`). In the benchmark `held`, 25 seconds of it, a job then costs the server 18 us instead of
      41 to 52. `endurance.py` has what it does to jobs that come one by one.
    - **Plain claim.** Who claims often asks once in a while which plain claim is enough, if any. None is any
      more when it brings nothing and the whole one does, or when two claims in a row were slow.
    - **Width.** Where very many queues have jobs, those in the head may be too few, and to ask each queue is
      dear. So after two slow claims in a row the whole claim looks further ahead for a while. Of 20,000
      queues behind 2,000 jobs of locked ones, a job then costs the server 76 us instead of 1,700 if 24 are
      claimed at once; of as many behind 10,000, 29 us instead of 92 if 500 are. Elsewhere it costs a quarter
      to four fifths more, which is why it ends.

    `now` is `trio.current_time()`.
    """

    start: Position | None = None
    """From where on to look; None for everywhere."""
    look_back: LookBack = attrs.field(factory=LookBack)
    """When to look where before the start."""
    _took_long: bool = False
    """Whether the last claim took long for what it brought."""
    _best_seconds_per_job: float = LARGE_CLAIM_SECONDS_PER_JOB
    """What a job of a large claim has taken at best."""
    _plain_claim: PlainClaim | None = None
    _probed_at: float = -math.inf
    _dead_rows: int = 0
    """As many as there were at the last probe."""
    _jobs_came_at: float = -math.inf
    _was_slow: bool = False
    """Whether the last claim was slow, whatever it brought."""
    _wide_until: float = -math.inf

    def plain_claim(self, now: float) -> PlainClaim | None:
        """Return the plain claim that is likely to be enough; None if only the whole one is."""
        return self._plain_claim if now - self._probed_at < PROBE_INTERVAL_SECONDS else None

    def width(self, now: float) -> int:
        """Return how many times as far as usual the whole claim looks for jobs of named queues."""
        return WIDE_FACTOR if now < self._wide_until else 1

    def is_probe_due(self, now: float) -> bool:
        """Whether it is time to ask which plain claim is enough; not if that took as long as a claim does.

        With a start it also tells whether that is still worth it, so somebody who is idle asks, too.
        """
        if self.start is None and (self._took_long or now - self._jobs_came_at >= BUSY_SECONDS):
            return False
        return now - self._probed_at >= PROBE_INTERVAL_SECONDS

    def probed(self, found: PlainClaim | None, dead_rows: int, now: float) -> None:
        """Take notice of which plain claim is enough, if any, and of how many rows are dead."""
        self._plain_claim, self._dead_rows, self._probed_at = found, dead_rows, now
        if dead_rows < MANY_DEAD_ROWS:
            self.start = None

    def learn(
        self, jobs: Sequence[Job], seconds: float, now: float, others_start: Position | None = None
    ) -> None:
        """Take notice of what a claim that looked everywhere brought, and of how long it took.

        If it brought nothing, the start of other tasks is as good: the dead rows are the same.
        """
        if jobs:
            self._jobs_came_at = now
        had_taken_long, self._took_long = self._took_long, seconds > self._usual(len(jobs))
        if had_taken_long and self._took_long and self._may_be_among_dead_rows(now):
            self.start = _just_before(jobs[0]) if jobs else others_start
            self.look_back = LookBack()
        had_been_slow, self._was_slow = self._was_slow, seconds > SLOW_CLAIM_SECONDS
        if had_been_slow and self._was_slow:
            self.forget_plain_claim()
            self._wide_until = now + WIDE_SECONDS
        if len(jobs) >= LARGE_CLAIM_JOBS:
            self._best_seconds_per_job = min(self._best_seconds_per_job, seconds / len(jobs))

    def _may_be_among_dead_rows(self, now: float) -> bool:
        """Whether there are many, or the next claim will know, since a probe is due."""
        return self._dead_rows >= MANY_DEAD_ROWS or now - self._probed_at >= PROBE_INTERVAL_SECONDS

    def learn_from_start(self, jobs: Sequence[Job], now: float) -> None:
        """Take notice of what a claim brought that looked from the start on.

        The start follows the jobs, but not to another priority: jobs of the better one may come.
        """
        if jobs:
            self._jobs_came_at = now
            found = _just_before(jobs[0])
            if self.start is not None and self.start.priority == found.priority:
                self.start = max(self.start, found, key=attrgetter("run_at"))

    def looked_back(self, part: Part, jobs: Sequence[Job], seconds: float) -> None:
        """Take notice of what a look back brought, and of how long it took.

        If jobs of better priorities come where many rows are dead, theirs is the start to look for.
        """
        is_slow = seconds > SLOW_CLAIM_SECONDS
        if (part.is_better and jobs and is_slow) or self.look_back.round_seconds < QUICK_ROUND_SECONDS:
            self.start = None

    def _usual(self, jobs: int) -> float:
        """Return how many seconds a claim of so many may take without having taken long."""
        if jobs < LARGE_CLAIM_JOBS:
            return SLOW_CLAIM_SECONDS
        usual = LARGE_CLAIM_LONG_FACTOR * self._best_seconds_per_job * jobs
        return max(LARGE_CLAIM_QUICK_SECONDS, usual)

    def forget_plain_claim(self) -> None:
        """Take it that only the whole claim is enough, until the next probe."""
        self._plain_claim = None


def _just_before(job: Job) -> Position:
    return Position(job.priority, moved(job.run_at, -START_MARGIN_SECONDS))
