"""Workers in processes of their own, which can be killed, and the ledger of what they said."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import attrs
import trio

from tests.faults.load import PATIENCE
from tests.faults.program import SLOTS
from trio_graphile._database.dead_jobs import MOST_INTERRUPTIONS
from trio_graphile._model.bell import Bell

PROGRAM = Path(__file__).with_name("program.py")
ROOT = Path(__file__).parents[2]


@attrs.define(eq=False)
class Run:
    """One run of one job's handler, with times of the machine's monotonic clock."""

    member: Member
    job_id: int
    attempt: int
    started_at: float
    ended_at: float | None = None
    ending: str | None = None
    """What the handler said last; None if it could say nothing any more."""

    @property
    def began_at(self) -> float:
        """When it began at the latest: before its worker was frozen, if its handler may have been next."""
        roused = self in self.member.roused_runs
        return self.member.lost_at if roused and self.member.lost_at is not None else self.started_at

    @property
    def is_lost(self) -> bool:
        """Whether its worker was killed or frozen since it began: what came of it may be unrecorded."""
        return self.member.lost_at is not None and self.began_at <= self.member.lost_at

    @property
    def over_at(self) -> float | None:
        """When it was over, for others: a run that is frozen may still end one day."""
        ends = [self.ended_at, self.member.lost_at if self.is_lost else None]
        return min((end for end in ends if end is not None), default=None)

    def next_attempts(self, deaths: int) -> range:
        """What the next run's attempt may be: recovery gives back what was not recorded as failed.

        Until then `deaths` workers died since the job's first run. Each may have held it, be it only in its
        local queue, and a job that loses so many workers in a row pays with an attempt for each one more.
        """
        raised = self.ending == "raised"
        free = self.is_lost or self.ending == "cancelled"
        if not (raised or free):
            return range(0)  # it was completed
        paid = max(0, deaths - MOST_INTERRUPTIONS + 1)
        return range(self.attempt + (not free), self.attempt + raised + paid + 1)


@attrs.define(eq=False)
class Member:
    """One worker process."""

    process: trio.Process
    worker_id: str = ""
    lost_at: float | None = None
    """When it was killed, or frozen."""
    runs: list[Run] = attrs.field(factory=list)

    @property
    def roused_runs(self) -> list[Run]:
        """The first runs of a worker that was frozen: each slot may have been about to call its handler."""
        since = math.inf if self.lost_at is None else self.lost_at
        return [run for run in self.runs if run.started_at > since][:SLOTS]

    def hear(self, words: list[str]) -> None:
        """Take one line of its output."""
        if words[0] == "ready":
            self.worker_id = words[1]
            return
        job_id, attempt, at = int(words[1]), int(words[2]), float(words[3])
        if words[0] == "started":
            self.runs.append(Run(self, job_id, attempt, at))
        else:
            run = next(run for run in reversed(self.runs) if run.job_id == job_id)
            run.ending, run.ended_at = words[0], at

    def is_busy(self) -> bool:
        """Whether it is in the middle of a job, and not of its first."""
        return len(self.runs) > 10 and self.runs[-1].ending is None


async def _kill(process: trio.Process) -> None:  # noqa: ASYNC124  # as run_process wants it
    process.kill()


@attrs.define(eq=False)
class Fleet:
    """Starts workers, hears what they say, and judges at the end."""

    url: str
    program: Path = PROGRAM
    arguments: Sequence[str] = ()
    """What the program is told beside the URL."""
    members: list[Member] = attrs.field(factory=list)
    _heard: Bell = attrs.field(factory=Bell)

    async def start(self, nursery: trio.Nursery) -> Member:
        """Start a worker; return once it runs."""
        start = partial(
            trio.run_process,
            [sys.executable, str(self.program), self.url, *self.arguments],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
            deliver_cancel=_kill,  # one that is frozen would not hear anything else
        )
        member = Member(await nursery.start(start))
        self.members.append(member)
        nursery.start_soon(self._listen_to, member)
        await self.wait_until(lambda: bool(member.worker_id))
        return member

    def kill(self, member: Member) -> None:
        """End a worker as no program can forestall."""
        self._lose(member, signal.SIGKILL, os.WEXITED)

    def freeze(self, member: Member) -> None:
        """Suspend a worker, as a machine can be suspended."""
        self._lose(member, signal.SIGSTOP, os.WSTOPPED)

    def _lose(self, member: Member, number: signal.Signals, until: int) -> None:
        """Send the signal, and see that it was heard: until then a job may still begin."""
        member.process.send_signal(number)
        os.waitid(
            os.P_PID, member.process.pid, until | os.WNOWAIT
        )  # whoever waits for its end still hears it
        member.lost_at = time.monotonic()

    def thaw(self, member: Member) -> None:
        """Let a frozen worker go on, as if nothing had happened."""
        member.process.send_signal(signal.SIGCONT)

    async def stop(self, member: Member) -> None:
        """Stop a worker gracefully: it must end well."""
        member.process.terminate()
        with trio.fail_after(PATIENCE):
            assert await member.process.wait() == 0

    async def wait_until(self, enough: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not enough():
                await self._heard.wait()

    @property
    def returned(self) -> int:
        """How many runs have come to their end, in all processes."""
        return sum(run.ending == "returned" for member in self.members for run in member.runs)

    async def _listen_to(self, member: Member) -> None:
        rest = b""
        assert member.process.stdout is not None
        async with member.process.stdout as output:
            async for chunk in output:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    member.hear(line.decode().split())
                self._heard.ring()

    def histories(self) -> dict[int, list[Run]]:
        """Return the runs of each job, as they followed each other."""
        histories: dict[int, list[Run]] = defaultdict(list)
        for run in sorted((run for member in self.members for run in member.runs), key=lambda r: r.began_at):
            histories[run.job_id].append(run)
        return histories

    def check(self, added: set[int]) -> None:
        """Every job was completed, ran nowhere twice at once, and its attempts tell the truth."""
        histories = self.histories()
        assert histories.keys() == added, "jobs were lost, or came from nowhere"
        for job_id, runs in histories.items():
            told = [(run.attempt, run.ending, run.member.lost_at is not None) for run in runs]
            paid = max(0, self._deaths(0.0, runs[0].started_at) - MOST_INTERRUPTIONS + 1)
            assert 1 <= runs[0].attempt <= 1 + paid, f"job {job_id}: {told}"
            assert runs[-1].ending == "returned", f"job {job_id}: {told}"
            for earlier, later in pairwise(runs):
                deaths = self._deaths(runs[0].started_at, later.started_at)
                assert later.attempt in earlier.next_attempts(deaths), f"job {job_id}: {told}"
                assert earlier.over_at is not None, f"job {job_id} has not ended"
                assert earlier.over_at <= later.began_at, f"job {job_id} ran twice at once"

    def _deaths(self, since: float, until: float) -> int:
        return sum(member.lost_at is not None and since <= member.lost_at <= until for member in self.members)

    def recoveries(self) -> list[float]:
        """Return how long jobs waited, after their worker was lost, until they ran again."""
        return [
            later.started_at - earlier.member.lost_at
            for runs in self.histories().values()
            for earlier, later in pairwise(runs)
            if earlier.member.lost_at is not None and earlier.is_lost and earlier.ending != "raised"
        ]

    def repetitions(self) -> int:
        """Return how many runs were repeated that had come to their end, unrecorded."""
        return sum(sum(run.ending == "returned" for run in runs) - 1 for runs in self.histories().values())
