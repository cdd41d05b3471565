"""Jobs that Trio tasks add at the same time: one statement adds all of them, with one notification.

PostgreSQL commits transactions that notify one after the other, so adds from many sessions at once do not add
up. Here one Trio task adds for all that wait, and meanwhile others come to wait. `docs/performance.md` says
what that gains.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import AsyncIterator, Sequence

import attrs
import outcome
import trio

from trio_graphile._database.adding.one import add_job
from trio_graphile._database.adding.plain import add_alike_jobs, are_alike
from trio_graphile._database.database import Database
from trio_graphile._database.session import Session
from trio_graphile._exceptions import ConnectionLost, DatabaseClosed, DatabaseError
from trio_graphile._model.bell import Bell
from trio_graphile._model.jobs import Job, NewJob

_MOST_JOBS = 1_000
"""How many jobs one statement adds."""
_MOST_CHARACTERS = 1_000_000
"""How many characters the payloads of one statement have together, unless one payload alone has more."""


@attrs.define(eq=False)
class _Addition:
    """A job that a Trio task wants to see added."""

    new_job: NewJob
    called: trio.Event = attrs.field(factory=trio.Event)
    """Set when there is an answer, or when it is the task's turn to add what waits."""
    answer: outcome.Maybe[Job] | None = None
    is_given_up: bool = False
    """Whether the task waits no more, so that it cannot add for others, either."""


@attrs.define(eq=False)
class CombinedAdds:
    """Adds jobs for many Trio tasks, one statement at a time."""

    _database: Database
    _session: Session
    """Cancelled, its statements go on to their end: the jobs of others are in them, too."""
    _waiting: dict[_Addition, None] = attrs.field(factory=dict)
    """In the order in which they came."""
    _adding: _Addition | None = None
    """That of the Trio task that adds at this moment."""
    _passed_on: Bell = attrs.field(factory=Bell)
    """Rings when somebody else adds, or nobody."""
    _is_closed: bool = False
    """Whether all further jobs are refused."""
    _is_over: bool = False
    """Whether the session was closed for good."""

    @trio.lowlevel.enable_ki_protection
    async def add_job(self, new_job: NewJob) -> Job:
        """Add a job. One with a key or a queue is added by itself: it might keep the others waiting.

        A caller that is cancelled before its job is sent has not added it. Raises `DatabaseClosed` after
        `aclose`.
        """
        self._check_open()
        if not are_alike([new_job]):
            return await add_job(self._database, new_job)
        addition = _Addition(new_job)
        self._waiting[addition] = None
        try:
            if self._adding is None:
                self._adding = addition
            else:
                await addition.called.wait()
            if addition.answer is None:
                self._check_open()
                await self._add_those_like(addition)
        finally:
            addition.is_given_up = addition.answer is None
            self._waiting.pop(addition, None)
            if self._adding is addition:
                self._pass_on()
        if addition.answer is None:
            raise AssertionError("whoever adds answers")
        return addition.answer.unwrap()

    def _check_open(self) -> None:
        if self._is_closed:
            raise DatabaseClosed("combining_adds")

    async def aclose(self) -> None:
        """Refuse all further jobs, wait for what was sent, and close the session; at once if cancelled."""
        self._is_closed = True
        try:
            while self._adding is not None:
                await self._passed_on.wait()
        finally:
            await self._session.aclose()  # noqa: ASYNC102  # a second at most, none if cancelled
            self._is_over = True

    def _pass_on(self) -> None:
        """Let the first that waits add, if there is one."""
        self._adding = next(iter(self._waiting), None)
        if self._adding is not None:
            self._adding.called.set()
        self._passed_on.ring()

    async def _add_those_like(self, first: _Addition) -> None:
        """Answer an addition, and those like it that wait; if we are cancelled before, they wait on."""
        batch = self._take(first)
        try:
            await self._answer(batch)
        except Exception as error:  # nothing that we expect: what was sent may have been added
            for addition in batch:
                if addition.answer is None:
                    addition.answer = outcome.Error(_unknown(error))
            raise
        finally:
            if self._is_over:
                self._session.terminate()  # it was being opened while it was closed
            unanswered = [one for one in batch if one.answer is None and not one.is_given_up]
            self._waiting = dict.fromkeys([*unanswered, *self._waiting])
            for addition in batch:
                if addition.answer is not None:
                    addition.called.set()

    def _take(self, first: _Addition) -> list[_Addition]:
        """Take an addition from those that wait, and as many that are like it as fit into one statement."""
        batch: list[_Addition] = []
        characters = 0
        for addition in self._waiting:
            if not are_alike([first.new_job, addition.new_job]):
                continue
            characters += len(addition.new_job.payload_json)
            if batch and (len(batch) == _MOST_JOBS or characters > _MOST_CHARACTERS):
                break
            batch.append(addition)
        for addition in batch:
            del self._waiting[addition]
        return batch

    async def _answer(self, batch: Sequence[_Addition]) -> None:
        """Add jobs together; one by one if their task is new, or if they are refused: maybe one is."""
        if len(batch) > 1:
            try:
                answer = await add_alike_jobs(self._session, [addition.new_job for addition in batch])
            except DatabaseError as error:
                if error.transient:
                    for addition in batch:
                        addition.answer = outcome.Error(_own(error))
                    return
            else:
                if answer is not None:
                    for addition, job in zip(batch, answer(), strict=True):
                        addition.answer = outcome.Value(job)
                    return
        for addition in batch:
            if addition.is_given_up:
                continue
            try:
                self._check_open()
                addition.answer = outcome.Value(await add_job(self._session, addition.new_job))
            except DatabaseError as error:
                addition.answer = outcome.Error(error)


def _own(error: DatabaseError) -> DatabaseError:
    """Return an error for one of several Trio tasks that it is raised in: each gives it a traceback."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own


def _unknown(error: Exception) -> DatabaseError:
    """Return an error for a Trio task whose job may have been added or not."""
    unknown = ConnectionLost(f"the answer was lost to {error!r}")
    unknown.__cause__ = error
    return unknown


@contextlib.asynccontextmanager
async def combined_adds(database: Database) -> AsyncIterator[CombinedAdds]:
    """Combine adds for as long as the body lasts, on a session of their own."""
    session = Session(database, "adds", None)
    adds = CombinedAdds(database, session)
    try:
        yield adds
    finally:
        await adds.aclose()  # noqa: ASYNC102  # at once if cancelled
