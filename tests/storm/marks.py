"""What handlers tell the referee: marks in a table on a server of its own, each committed at once.

It imports nothing but values: processes of the lane start with it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

What: TypeAlias = Literal["started", "finished", "interrupted", "failed"]

TABLE = """
    create table marks (
      id bigint primary key generated always as identity,
      at timestamptz not null default clock_timestamp(),
      token bigint not null,
      what text not null check (what in ('started', 'finished', 'interrupted', 'failed')),
      attempt integer,
      worker text not null,
      pid integer not null
    )
"""
ADD_MARK = """
    insert into marks (token, what, attempt, worker, pid)
    values ($1::bigint, $2::text, $3::integer, $4::text, $5::integer)
"""


@attrs.frozen(kw_only=True)
class Mark:
    """One row, with the time of the referee's server in seconds since 1970."""

    id: int
    at: float
    token: int
    what: What
    attempt: int | None
    worker: str
    pid: int
