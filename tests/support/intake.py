"""What claims jobs and hands them to slots, where a test stands for the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import attrs
import trio

from tests.support.workers import NEVER
from trio_graphile import LocalQueueOptions, ObserverOptions, TaskRegistry, WorkerOptions
from trio_graphile._database.claiming.claimer import Claimer
from trio_graphile._database.connection import Row
from trio_graphile._database.statement import Statement
from trio_graphile._database.unknown_locks import FIND_UNKNOWN_JOBS
from trio_graphile._interceptors.chains import NO_CHAINS
from trio_graphile._model.bell import Bell
from trio_graphile._model.bounds import ClaimRules
from trio_graphile._model.jobs import Job
from trio_graphile._model.outcomes import Outcome, Returned
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.claims import Claims
from trio_graphile._worker.emitter import Emitter
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.lease_term import LeaseTerm
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.local_queue import LocalQueue
from trio_graphile._worker.prefetcher import Prefetcher
from trio_graphile._worker.recorder import Recorder
from trio_graphile._worker.refetch_delay import RefetchDelay

ME = "trio_graphile_me"


def unobserved() -> Emitter:
    """Return an emitter whose events nobody observes."""
    return Emitter(worker_id=ME, chains=NO_CHAINS, options=ObserverOptions())


class ScriptedClaimer(Claimer):
    """Claims what the test says."""

    def __init__(self, script: Callable[[int], Awaitable[list[Job]]]) -> None:
        super().__init__(Reconciled(trio.lowlevel.checkpoint), ME)
        self.script = script

    async def claim(self, limit: int, _rules: ClaimRules, _unended: Iterable[str]) -> list[Job]:
        """Ask the test."""
        return await self.script(limit)


@attrs.define(eq=False)
class Reconciled:
    """Stands for the database when it is asked what is locked by us: nothing of which we do not know."""

    ask: Callable[[], Awaitable[None]]
    times_opened: int = 1

    async def fetch(self, sql: str | Statement, *_arguments: object) -> list[Row]:
        """Note each reconciliation."""
        if sql is FIND_UNKNOWN_JOBS:
            await self.ask()
        return []

    async def fetch_row(self, _sql: str | Statement, *_arguments: object) -> Row | None:
        """Refuse what no reconciliation needs."""
        raise NotImplementedError

    async def fetch_value(self, _sql: str | Statement, *_arguments: object) -> Any:
        """Refuse what no reconciliation needs."""
        raise NotImplementedError

    async def execute(self, _sql: str | Statement, *_arguments: object) -> str:
        """Refuse what no reconciliation needs."""
        raise NotImplementedError


@attrs.define(eq=False)
class ReturnsKept(Recorder):
    """Writes nothing, and keeps what is given back."""

    returned: list[Job] = attrs.field(factory=list)

    def put(self, outcome: Outcome, *, maybe_completed: bool = False) -> None:
        """Keep it."""
        assert isinstance(outcome, Returned)
        assert not maybe_completed
        self.returned.append(outcome.job)


async def nothing() -> None:
    """Reconcile, where there is nothing to reconcile."""
    await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class Intake:
    """A prefetcher that claims what the test says, its local queue, and what that gives back."""

    claim: Callable[[int], Awaitable[list[Job]]]
    reconcile: Callable[[], Awaitable[None]] = nothing
    ledger: Ledger = attrs.field(factory=Ledger)
    size: int = 2
    announcements: Announcements = attrs.field(init=False)
    session: Reconciled = attrs.field(init=False)
    recorder: ReturnsKept = attrs.field(init=False)
    term: LeaseTerm = attrs.field(init=False)
    queue: LocalQueue = attrs.field(init=False)
    prefetcher: Prefetcher = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.session = session = Reconciled(self.reconcile)
        options = WorkerOptions(
            poll_interval=NEVER,
            local_queue=LocalQueueOptions(size=self.size),
        )
        emitter, self.term = unobserved(), LeaseTerm(options.lease)
        self.term.begin(self.term.now())
        claims = Claims(
            claimer=ScriptedClaimer(self.claim),
            session=session,  # type: ignore[arg-type]  # it stands for one
            ledger=self.ledger,
            tasks=TaskRegistry(),
            options=options,
            worker_id=ME,
            emitter=emitter,
        )
        delay = RefetchDelay(options.local_queue, emitter)
        self.announcements = Announcements(news=Bell(), claims=claims, delay=delay)
        self.recorder = ReturnsKept(
            session=session,
            worker_id=ME,
            ledger=self.ledger,
            announcements=self.announcements,
            job_events=JobEvents(emitter),
        )
        self.queue = LocalQueue(
            options=options.local_queue,
            ledger=self.ledger,
            recorder=self.recorder,
            announcements=self.announcements,
            term=self.term,
            ending=trio.Event(),
            emitter=emitter,
        )
        self.prefetcher = Prefetcher(
            queue=self.queue,
            claims=claims,
            ledger=self.ledger,
            announcements=self.announcements,
            term=self.term,
            options=options.local_queue,
            poll_interval=NEVER,
            delay=delay,
        )
