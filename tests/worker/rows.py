"""What stands for the database where a recorder is tested without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from tests.support.intake import Intake, unobserved
from trio_graphile import Job, StatementFailed
from trio_graphile._database.held_rows import COMPLETE_ALIKE_JOBS, COMPLETE_JOBS, FAIL_JOBS, RETURN_JOBS
from trio_graphile._database.left_jobs import FIND_LEFT_JOBS
from trio_graphile._database.statement import Statement
from trio_graphile._worker.announcements import Announcements
from trio_graphile._worker.job_events import JobEvents
from trio_graphile._worker.ledger import Ledger
from trio_graphile._worker.recorder import Recorder

WRITES: dict[str | Statement, str] = {
    COMPLETE_JOBS: "completed",
    COMPLETE_ALIKE_JOBS: "completed",
    FAIL_JOBS: "failed",
    RETURN_JOBS: "returned",
}


async def nothing(_limit: int) -> list[Job]:
    """Claim nothing."""
    await trio.lowlevel.checkpoint()
    return []


def announcements() -> Announcements:
    return Intake(nothing).announcements


@attrs.define(eq=False)
class Rows:
    """Stands for the database: notes each write, and goes wrong on demand."""

    written: list[tuple[str, list[int]]] = attrs.field(factory=list)
    before_write: Callable[[], None] = lambda: None
    errors: list[Exception] = attrs.field(factory=list)
    stolen: set[int] = attrs.field(factory=set)
    """The jobs that are not ours any more."""
    left: set[int] = attrs.field(factory=set)
    """Those of these that are there: others have them."""
    before_look: Callable[[], None] = lambda: None
    look_error: Exception | None = None
    """What becomes of a look for them."""
    poison: int = 0
    """The job whose completion is refused."""
    refused: set[int] = attrs.field(factory=set)
    """The jobs about which nothing may be written."""
    most_at_once: int = 4096
    """How many the database can write in time."""
    announcements: Announcements = attrs.field(factory=announcements)
    ledger: Ledger = attrs.field(factory=Ledger)

    def recorder(self, *, complete_delay: float = 0.0, fail_delay: float = 0.0) -> Recorder:
        return Recorder(
            complete_delay=complete_delay,
            fail_delay=fail_delay,
            session=self,
            worker_id="me",
            ledger=self.ledger,
            announcements=self.announcements,
            job_events=JobEvents(unobserved()),
        )

    def claim(self, *jobs: Job) -> None:
        """Have jobs be held."""
        self.ledger.claim_sent()
        self.ledger.claimed(jobs)

    async def fetch(self, sql: str | Statement, *arguments: Any) -> list[Any]:
        """Write failures, or what is given back; or look for what is left."""
        if sql is FIND_LEFT_JOBS:
            self.before_look()
            await trio.lowlevel.checkpoint()
            if self.look_error is not None:
                raise self.look_error
            return [{"id": id_} for id_ in arguments[0] if id_ in self.left]
        return [{"id": id_} for id_ in await self._write(WRITES[sql], arguments[1])]

    async def fetch_value(self, sql: str | Statement, *arguments: Any) -> Any:
        """Write completions."""
        return list(await self._write(WRITES[sql], arguments[1]))

    async def fetch_row(self, sql: str | Statement, *arguments: object) -> None:
        """Refuse what the recorder does not use."""
        raise NotImplementedError

    async def execute(self, sql: str | Statement, *arguments: object) -> str:
        """Refuse what the recorder does not use."""
        raise NotImplementedError

    async def _write(self, what: str, ids: Sequence[int]) -> set[int]:
        self.before_write()
        if self.errors:
            raise self.errors.pop(0)
        await trio.lowlevel.checkpoint()
        if what == "completed" and self.poison in ids:
            raise StatementFailed("not this one", sqlstate="P0001")
        if not self.refused.isdisjoint(ids):
            raise StatementFailed("nothing about this one", sqlstate="P0001")
        if len(ids) > self.most_at_once:
            raise StatementFailed("canceling statement due to statement timeout", sqlstate="57014")
        self.written.append((what, list(ids)))
        return set(ids) - self.stolen
