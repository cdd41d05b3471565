"""One handler, called as a worker would call it, with no worker and no queue."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import attrs
import trio

from trio_graphile._client import Client
from trio_graphile._database.access import Access
from trio_graphile._database.address import read_address
from trio_graphile._database.bridge import open_bridge
from trio_graphile._database.database import Database
from trio_graphile._database.driver.loops import open_loop_for_users
from trio_graphile._exceptions import DatabaseError
from trio_graphile._interceptors.raised import split_raised
from trio_graphile._model.app_state import find_state
from trio_graphile._model.jobs import DEFAULT_MAX_ATTEMPTS, Job, JobSpec, check_task
from trio_graphile._model.options import DatabaseOptions, ProcessOptions
from trio_graphile._model.outcomes import Completed, Failed, Outcome
from trio_graphile._model.validators import check_kind
from trio_graphile._tasks.context import CURRENT_JOB
from trio_graphile._tasks.task import Task
from trio_graphile._worker.lanes import End, Ended, Lanes
from trio_graphile._worker.running_job import Interruption, RunningJob
from trio_graphile._worker.surroundings import Surroundings
from trio_graphile.testing._runs import SingleRun, finished_run, next_payload

PayloadT = TypeVar("PayloadT")

_WORKER_ID = "run_job"
_CLOSING_TIMEOUT = 1.0


async def run_job(
    task: Task[PayloadT],
    payload: PayloadT,
    spec: JobSpec | None = None,
    *,
    attempt: int = 1,
    state: Any = None,
    database: Database | None = None,
    stopping: trio.Event | None = None,
    interrupt: trio.Event | None = None,
    raise_failures: bool = True,
) -> SingleRun[PayloadT]:
    """Call the handler of a task with a payload and a real context, and return how the run ended.

    The payload makes its way through JSON, and the handler runs in its lane and has its timeout. There is no
    queue: nothing is stored, and a handler that uses `context.client` or `context.database` needs a
    `database`; one that completes its job in a transaction needs a stored job: use `run_until_empty`.

    `spec` and `attempt` say what the handler finds in `context.job`, `state` is that of the worker. Set
    `stopping` to have the handler see that its worker stops, and `interrupt` to interrupt it, as a worker
    does at the end of the grace period. Raises what the handler raises, but for `Snooze`; with
    `raise_failures=False` it is `SingleRun.error` instead. Raises `PayloadInvalid`, `OptionInvalid` for what
    is no task, and `StateMissing` if the state lacks what the task needs.
    """
    check_task(task, "a registry returns it, as in tasks[identifier]")
    if spec is not None:
        check_kind("spec", spec, JobSpec, "JobSpec(priority=1)")
    check_kind("attempt", attempt, int)
    for name, event in (("stopping", stopping), ("interrupt", interrupt)):
        if event is not None:
            check_kind(name, event, trio.Event)
    for wanted in task.options.needs:
        find_state(state, wanted)
    job = _make_job(task, payload, JobSpec() if spec is None else spec, attempt)
    async with _lend(database) as lent:
        surroundings = Surroundings(
            client=Client(lent),
            database=lent,
            worker_id=_WORKER_ID,
            state=state,
            stopping=trio.Event() if stopping is None else stopping,
            was_claimed_again=lambda _job: False,  # there is nobody else
        )
        run = await _run(task, job, surroundings, interrupt)
    if raise_failures:
        run.raise_failure()
    return run


def _make_job(task: Task[PayloadT], payload: PayloadT, spec: JobSpec, attempt: int) -> Job:
    spec, now = task.complete_spec(spec), datetime.now(UTC)
    return Job(
        id=1,
        task_identifier=task.identifier,
        payload_json=task.to_json(payload),
        queue_name=spec.queue_name,
        priority=spec.priority or 0,
        run_at=spec.run_at or now,
        attempts=attempt,
        max_attempts=DEFAULT_MAX_ATTEMPTS if spec.max_attempts is None else spec.max_attempts,
        created_at=now,
        updated_at=now,
        key=spec.job_key,
        flags=tuple(spec.flags or ()),
        locked_at=now,
        locked_by=_WORKER_ID,
    )


async def _run(
    task: Task[PayloadT], job: Job, surroundings: Surroundings, interrupt: trio.Event | None
) -> SingleRun[PayloadT]:
    scope = trio.CancelScope()  # noqa: TID251  # the timeout, and what `interrupt` cancels; never a shield
    running = RunningJob(task=task, job=job, scope=scope, started_at=trio.current_time())
    scope.deadline = running.started_at + (task.options.timeout or math.inf)
    if task.wants_context:
        running.context = surroundings.context(job, running, task.to_json)
    outcome, error = await _outcome(running, interrupt)
    again = next_payload(outcome)
    return SingleRun(
        **attrs.asdict(finished_run(outcome, error), recurse=False),
        checkpoint=None if again is None else task.from_json(again),
        progress=running.progress,
    )


async def _outcome(running: RunningJob, interrupt: trio.Event | None) -> tuple[Outcome, BaseException | None]:
    """Call the handler; return the outcome, and what the handler raised if that is why it failed."""
    token = CURRENT_JOB.set(running.job)
    try:
        end = await _call_beside(running, interrupt)
    except BaseException as raised:  # noqa: BLE001, ASYNC103  # a handler may raise anything
        error, further = split_raised(raised)
        if error is None or further is not None:
            raise (further or raised) from None  # noqa: ASYNC104  # it has the cancellation, if there is one
        outcome = running.failed(running.task.failure(error))
        return outcome, error if isinstance(outcome, Failed) else None  # noqa: ASYNC104  # as above
    finally:
        CURRENT_JOB.reset(token)
    if end is End.RETURNED:
        return Completed(running.job), None
    return running.interrupted() if end is End.INTERRUPTED else running.failed(end), None


async def _call_beside(running: RunningJob, interrupt: trio.Event | None) -> Ended:
    """Call the handler, and wait beside it for the event that interrupts it."""
    if interrupt is None:
        return await _call(running)
    failed: BaseException | None = None
    end: Ended = End.INTERRUPTED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_interrupt_when, interrupt, running)
        try:
            end = await _call(running)
        except Exception as error:  # noqa: BLE001  # raised below, without the group of this nursery
            failed = error
        nursery.cancel_scope.cancel()
    if failed is not None:
        raise failed
    return end


async def _interrupt_when(event: trio.Event, running: RunningJob) -> None:
    await event.wait()
    running.interrupt(Interruption.FENCED)


async def _call(running: RunningJob) -> Ended:
    """Call the handler in its lane, and leave the scope that interrupts it."""
    lanes = Lanes(
        cancel_timeout=_CLOSING_TIMEOUT,
        threads=trio.CapacityLimiter(1),
        process_options=ProcessOptions(count=1),
    )
    lanes.prepare([running.task])
    async with lanes.open(_CLOSING_TIMEOUT):
        if running.task.lane != "async":
            return await lanes.call(running)
        with running.scope:
            return await lanes.call(running)
        return End.INTERRUPTED


@contextlib.asynccontextmanager
async def _lend(database: Database | None) -> AsyncIterator[Database]:
    """Lend the database; if there is none, one to which there is no way."""
    if database is not None:
        yield database
        return
    access = _NoAccess(address=read_address("postgresql://nowhere/nothing", {}))
    async with open_bridge() as bridge, open_loop_for_users() as users_loop:  # a handler may run asyncio code
        yield Database(DatabaseOptions(), access, access, bridge, users_loop)


@attrs.define(eq=False)
class _NoAccess(Access):
    """No way into a database: whoever wants a session is told what to do."""

    def hosts(self) -> NoReturn:
        raise DatabaseError("there is no database here: lend one with `run_job(..., database=...)`")
