"""What a worker remembers of its claims, so that the next one costs the server less.

It never decides whether a job is claimed, only how jobs are looked for: what is remembered may be wrong by
now, and is forgotten after seconds.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

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

START_FACTOR = 10.0
"""A start is remembered for so many times as long as it took to find: nine tenths of the time go to jobs."""
START_MOST_SECONDS = 3.0
"""But for no longer: jobs may come before it, and are found only afterwards."""
START_MARGIN = timedelta(seconds=1)
"""A start is so much earlier than the job that it was found by: another transaction may have begun before the
one that added this job, and end after it."""
START_GAIN = 4.0
"""If to look everywhere takes so many times as long as to look from the start on, it has to wait, ..."""
MANY_DEAD_ROWS = 50_000
"""... and if there are so many to step over, which takes 8 to 15 ms. On a busy machine claims are slow for
other reasons, too, and jobs that a worker gives back when it stops are before the start: they do not wait."""

PROBE_INTERVAL_SECONDS = 1.0
"""How often it is asked whether a plain claim is enough, and for how long that is believed."""
BUSY_SECONDS = 0.5
"""Who got jobs so recently claims often, and saves more by asking than that takes."""

WIDE_FACTOR = 10
"""How many times as far as usual to look for jobs of named queues, after two slow claims in a row."""
WIDE_SECONDS = 10.0
"""For how long to do so."""


@attrs.frozen
class Position:
    """A place in the order in which jobs are taken."""

    priority: int
    run_at: datetime


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
      the next ones look from the best job on that was found last, and it is a while before one looks
      everywhere. In the benchmark `held`, 25 seconds of it, a job then costs the server 18 us instead of 41
      to 52. `endurance.py` has what it does to jobs that come one by one.
    - **Plain claim.** Who claims often asks once in a while which plain claim is enough, if any. None is any
      more when it brings nothing and the whole one does, or when two claims in a row were slow.
    - **Width.** Where very many queues have jobs, those in the head may be too few, and to ask each queue is
      dear. So after two slow claims in a row the whole claim looks further ahead for a while. Of 20,000
      queues behind 2,000 jobs of locked ones, a job then costs the server 76 us instead of 1,700 if 24 are
      claimed at once; of as many behind 10,000, 29 us instead of 92 if 500 are. Elsewhere it costs a quarter
      to four fifths more, which is why it ends.

    `now` is `trio.current_time()`.
    """

    _start: Position | None = None
    _start_seconds: float = 0.0
    """How long the last claim took that looked everywhere."""
    start_until: float = -math.inf
    """Until when to look from the start on."""
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

    def start(self, now: float) -> Position | None:
        """Return from where on to look; None for everywhere."""
        return self._start if now < self.start_until else None

    def plain_claim(self, now: float) -> PlainClaim | None:
        """Return the plain claim that is likely to be enough; None if only the whole one is."""
        return self._plain_claim if now - self._probed_at < PROBE_INTERVAL_SECONDS else None

    def width(self, now: float) -> int:
        """Return how many times as far as usual the whole claim looks for jobs of named queues."""
        return WIDE_FACTOR if now < self._wide_until else 1

    def is_probe_due(self, now: float) -> bool:
        """Whether it is time to ask which plain claim is enough; not if that took as long as a claim does."""
        if self._took_long and self.start(now) is None:
            return False
        return now - self._jobs_came_at < BUSY_SECONDS and now - self._probed_at >= PROBE_INTERVAL_SECONDS

    def probed(self, found: PlainClaim | None, dead_rows: int, now: float) -> None:
        """Take notice of which plain claim is enough, if any, and of how many rows are dead."""
        self._plain_claim, self._dead_rows, self._probed_at = found, dead_rows, now

    def learn(self, jobs: Sequence[Job], seconds: float, now: float) -> None:
        """Take notice of what a claim that looked everywhere brought, and of how long it took."""
        if jobs:
            self._jobs_came_at = now
        took_long = seconds > self._usual(len(jobs))
        if jobs:
            had_taken_long, self._took_long = self._took_long, took_long
            if had_taken_long and took_long:
                self._start = _just_before(jobs[0])
                self._keep_start(seconds, now)
        elif took_long and self._start is not None:
            self._keep_start(seconds, now)  # there is nothing before it, nor after it
        else:
            self._took_long = False
        had_been_slow, self._was_slow = self._was_slow, seconds > SLOW_CLAIM_SECONDS
        if had_been_slow and self._was_slow:
            self.forget_plain_claim()
            self._wide_until = now + WIDE_SECONDS
        if len(jobs) >= LARGE_CLAIM_JOBS:
            self._best_seconds_per_job = min(self._best_seconds_per_job, seconds / len(jobs))

    def learn_from_start(self, jobs: Sequence[Job], seconds: float, now: float) -> None:
        """Take notice of what a claim brought that looked from the start on, and of how long it took.

        The start follows the jobs, but not to another priority: jobs of the better one may come.
        """
        if jobs:
            self._jobs_came_at = now
            start, found = self._start, _just_before(jobs[0])
            if start is not None and start.priority == found.priority and start.run_at < found.run_at:
                self._start = found
        if self._dead_rows < MANY_DEAD_ROWS or seconds * START_GAIN > self._start_seconds:
            self.forget_start()  # to look from there on saves too little

    def _keep_start(self, seconds: float, now: float) -> None:
        self._start_seconds = seconds
        self.start_until = now + min(seconds * START_FACTOR, START_MOST_SECONDS)

    def _usual(self, jobs: int) -> float:
        """Return how many seconds a claim of so many may take without having taken long."""
        if jobs < LARGE_CLAIM_JOBS:
            return SLOW_CLAIM_SECONDS
        usual = LARGE_CLAIM_LONG_FACTOR * self._best_seconds_per_job * jobs
        return max(LARGE_CLAIM_QUICK_SECONDS, usual)

    def forget_start(self) -> None:
        """Look everywhere again."""
        self.start_until = -math.inf

    def forget_plain_claim(self) -> None:
        """Take it that only the whole claim is enough, until the next probe."""
        self._plain_claim = None


def _just_before(job: Job) -> Position:
    return Position(job.priority, job.run_at - START_MARGIN)
