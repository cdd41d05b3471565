"""Where workers of several kinds meet: a database, what handlers did, and a gate at which these wait."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest
import trio
from _pytest.mark import ParameterSet

from tests.conformance.programs import Peer, Programs
from trio_graphile import Connection, Database, open_database

PATIENCE = 30.0

_MORTAL = "mortal"
"""How the sessions of those are called that may be killed."""

_RUNS = """
    create table if not exists runs (
      id integer primary key generated always as identity,
      job_id bigint not null,
      side text not null,
      worker_id text not null,
      payload json,
      started_at timestamptz not null default clock_timestamp(),
      finished_at timestamptz
    )
"""


@attrs.frozen(kw_only=True)
class Row:
    """A job as it stands in the table, as far as all kinds of workers must agree about it."""

    attempts: int = 0
    max_attempts: int = 25
    key: str | None = None
    revision: int = 0
    locked: bool = False
    error: bool = False
    """Whether it has a last error."""
    payload: Any = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Run:
    """What a handler noted."""

    job_id: int
    side: str
    """The kind of worker."""
    worker_id: str
    payload: Any
    finished: bool


@attrs.define(eq=False)
class Stage:
    """A scenario's database and who is there."""

    database: Database
    url: str
    _programs: Programs
    _gate: Connection
    _peers: list[Peer] = attrs.field(factory=list)

    async def peer(self, kind: str, *, url: str | None = None) -> Peer:
        """Bring a worker of a kind here; it does nothing until it is asked to."""
        return await self._join(self._programs.shared(kind).converse(url or self.url, self.url))

    async def mortal(self, kind: str, *, url: str | None = None) -> Peer:
        """Bring one in a process of its own, which may be killed: by `kill`, if no proxy is in between."""
        program = await trio.to_thread.run_sync(self._programs.start, kind)
        named = f"{self.url}{'&' if '?' in self.url else '?'}application_name={_MORTAL}"
        return await self._join(program.converse(url or named, self.url))

    async def kill(self, mortal: Peer) -> None:
        """Kill it, and wait until the server has ended its sessions: one may still be in a statement."""
        mortal.program.kill()
        await self.wait_until(
            """
            select not exists (
              select
              from pg_stat_activity
              where datname = current_database() and application_name like $1::text
            )
            """,
            f"{_MORTAL}%",
        )

    async def _join(self, joining: Any) -> Peer:
        peer: Peer = await joining
        self._peers.append(peer)
        return peer

    async def close_gate(self) -> None:
        """From now on a handler whose payload says `held` waits."""
        await self._gate.execute("select pg_advisory_lock(1)")

    async def open_gate(self) -> None:
        await self._gate.execute("select pg_advisory_unlock_all()")

    async def leave(self) -> None:
        """Have everybody stop their workers."""
        await self.open_gate()
        async with trio.open_nursery() as nursery:
            for peer in self._peers:
                nursery.start_soon(peer.close)  # which some have done already

    # --- what can be seen -------------------------------------------------------------------------

    async def runs(self) -> list[Run]:
        """Return all runs of handlers, in the order in which they began."""
        rows = await self.database.fetch("""
            select job_id, side, worker_id, payload::text as payload, finished_at is not null as finished
            from runs
            order by id
        """)
        return [Run(**{**dict(row), "payload": json.loads(row["payload"])}) for row in rows]

    async def rows(self) -> dict[int, Row]:
        """Return all jobs, by their ids."""
        rows = await self.database.fetch("""
            select id, attempts, max_attempts, key, revision, locked_at is not null as locked,
              last_error is not null as error, payload::text as payload
            from graphile_worker._private_jobs
            order by id
        """)
        return {
            row["id"]: Row(
                **{name: row[name] for name in attrs.fields_dict(Row) if name != "payload"},
                payload=json.loads(row["payload"]),
            )
            for row in rows
        }

    async def holder_of(self, job_id: int) -> str:
        """Return the id of the worker that has locked a job."""
        worker_id: str = await self.database.fetch_value(
            "select locked_by from graphile_worker.jobs where id = $1::bigint", job_id
        )
        return worker_id

    async def locked_queues(self) -> list[str]:
        rows = await self.database.fetch("""
            select queue_name
            from graphile_worker._private_job_queues
            where locked_at is not null or locked_by is not null
            order by queue_name
        """)
        return [row["queue_name"] for row in rows]

    async def overlapping(self) -> int:
        """Return how many runs began while another one went on whose payload names the same queue."""
        count: int = await self.database.fetch_value("""
            with queued as (
              select started_at, max(finished_at) over (
                  partition by payload->>'queue'
                  order by started_at, id
                  rows between unbounded preceding and 1 preceding
                ) as busy_until
              from runs
              where payload->>'queue' is not null
                and finished_at is not null
            )
            select count(*)
            from queued
            where started_at < busy_until
        """)
        return count

    # --- waiting ----------------------------------------------------------------------------------

    async def wait_until(self, question: str, *arguments: object, patience: float = PATIENCE) -> None:
        """Wait until a query says true: a table tells nobody when it changes."""
        with trio.move_on_after(patience) as scope:
            while not await self.database.fetch_value(question, *arguments):  # noqa: ASYNC110
                await trio.sleep(0.01)
        if scope.cancelled_caught:
            seen = f"{await self.rows()}\n{await self.locked_queues()}\n{await self.runs()}"
            raise AssertionError(f"not within {patience} s: {question}\n{seen}")

    async def wait_finished(self, job_id: int) -> None:
        """Wait until a job has run to its end."""
        await self.wait_until(
            "select exists (select from runs where job_id = $1::bigint and finished_at is not null)", job_id
        )

    async def wait_started(self, count: int) -> None:
        """Wait until so many runs have begun."""
        await self.wait_until("select count(*) >= $1::bigint from runs", count)

    async def wait_settled(self, left: int = 0, patience: float = PATIENCE) -> None:
        """Wait until so many jobs are left, and neither a job nor a queue is locked."""
        await self.wait_until(
            """
            select count(*) = $1::bigint and count(locked_at) = 0
              and not exists (select from graphile_worker._private_job_queues where locked_at is not null)
            from graphile_worker._private_jobs
            """,
            left,
            patience=patience,
        )


@contextlib.asynccontextmanager
async def open_stage(programs: Programs, url: str) -> AsyncIterator[Stage]:
    """Prepare a database for a scenario; at its end everybody leaves."""
    async with open_database(url) as database, database.connection() as gate:
        await gate.execute(_RUNS)
        stage = Stage(database, url, programs, gate)
        yield stage
        await stage.leave()


def pairs(kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Return the ordered pairs of two kinds that have one of ours."""
    return [pair for pair in itertools.permutations(kinds, 2) if "ours" in pair]


def all_pairs(kinds: Sequence[str]) -> list[ParameterSet]:
    """Return all ordered pairs of two kinds, for a test's parameter; those without ours are exhaustive."""
    return [
        pytest.param(pair, marks=() if "ours" in pair else pytest.mark.exhaustive)
        for pair in itertools.permutations(kinds, 2)
    ]
