"""The journal that handlers keep of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import attrs
import trio

from trio_graphile import Job, Snooze
from trio_graphile._model.bell import Bell
from trio_graphile._model.failures import describe_error

REASON = "not wanted any more"
"""Why a job is cancelled on request."""


@attrs.define
class Journal:
    """What the handlers themselves know of a run."""

    parties: int = 0
    """How many jobs meet at the barrier: as many as there are slots."""
    is_started: bool = False
    """Whether the worker has said that it is."""
    at_barrier: int = 0
    begun: set[int] = attrs.field(factory=set)
    running: set[int] = attrs.field(factory=set)
    finished: set[int] = attrs.field(factory=set)
    raised: dict[int, str] = attrs.field(factory=dict)
    snoozed: set[int] = attrs.field(factory=set)
    interrupted: set[int] = attrs.field(factory=set)
    cancel_requested: set[int] = attrs.field(factory=set)
    cancelled_in_the_queue: set[int] = attrs.field(factory=set)
    """The jobs that no worker had when they were cancelled, so that none has failed them."""
    taken: set[int] = attrs.field(factory=set)
    """The jobs that another worker has taken from the one that ran them, and keeps."""
    behind: set[int] = attrs.field(factory=set)
    """The jobs whose queues it keeps with them."""
    elsewhere: set[int] = attrs.field(factory=set)
    """Those that it may run: the first has let go of them."""
    added: set[int] = attrs.field(factory=set)
    """Jobs that handlers have added."""
    maybe_added: int = 0
    """How many more they may have added: the answer was lost."""
    queues: dict[str, int] = attrs.field(factory=dict)
    violations: list[str] = attrs.field(factory=list)
    progress: Bell = attrs.field(factory=Bell)

    @contextlib.contextmanager
    def handling(self, job: Job) -> Iterator[None]:
        self.start(job)
        try:
            yield
        except BaseException as error:
            self.end(job, error)
            raise
        self.end(job, None)

    def start(self, job: Job) -> None:
        if job.id in self.running:
            self.violations.append(f"job {job.id} runs twice at once")
        if job.queue_name is not None and self.queues.get(job.queue_name):
            self.violations.append(f"queue {job.queue_name!r} overlaps")
        if job.id in self.elsewhere:
            self.violations.append(f"job {job.id} runs twice at once: another worker has it")
        self.begun.add(job.id)
        self.running.add(job.id)
        if job.queue_name is not None:
            self.queues[job.queue_name] = job.id
        self.note()

    def end(self, job: Job, error: BaseException | None) -> None:
        if error is None:
            self.finished.add(job.id)
        elif isinstance(error, Snooze):
            self.snoozed.add(job.id)
        elif (failure := failure_in(error)) is not None:
            self.raised[job.id] = describe_error(failure)
        else:
            self.interrupted.add(job.id)
        self.running.discard(job.id)
        self.free_queue(job)
        self.note()

    def free_queue(self, job: Job) -> None:
        if job.queue_name is not None and self.queues.get(job.queue_name) == job.id:
            self.queues[job.queue_name] = 0

    @contextlib.contextmanager
    def handling_in_thread(self, job: Job) -> Iterator[None]:
        """As `handling`; the journal is kept in the thread of Trio."""
        trio.from_thread.run_sync(self.start, job)
        try:
            yield
        except BaseException as error:
            trio.from_thread.run_sync(self.end, job, error)
            raise
        trio.from_thread.run_sync(self.end, job, None)

    async def meet(self) -> None:
        """Wait until each slot has come here."""
        self.at_barrier += 1
        self.note()
        await self.wait_until(lambda: self.at_barrier >= self.parties)

    def started(self, _value: object = None) -> None:
        """Note that the worker has started: the journal is its `task_status`, too."""
        self.is_started = True
        self.note()

    def note(self) -> None:
        self.progress.ring()

    async def wait_until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            await self.progress.wait()


def failure_in(error: BaseException) -> BaseException | None:
    """Return what of an exception is a handler's failure: all but Trio's cancellation and Ctrl-C."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((trio.Cancelled, KeyboardInterrupt))[1]
    return None if isinstance(error, (trio.Cancelled, KeyboardInterrupt)) else error
