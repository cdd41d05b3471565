"""A worker to be killed that moves money: each transfer and the end of its job are one transaction."""

from __future__ import annotations

import sys

import attrs
import trio

from tests.faults.program import say, serve
from trio_graphile import JobContext, TaskRegistry

tasks = TaskRegistry()

MOVE = """
    with parties as materialized (
      select id
      from public.accounts
      where id in ($1::integer, $2::integer)
      order by id
      for update
    )
    update public.accounts
    set balance = balance + case accounts.id when $2::integer then $3::integer else -$3::integer end
    from parties
    where accounts.id = parties.id
"""  # $1 source, $2 target, $3 amount
NOTE = "insert into public.transfers (job_id) values ($1::bigint)"


@attrs.frozen(kw_only=True)
class Transfer:
    source: int
    target: int
    amount: int


@tasks.task("transfer")
async def transfer(payload: Transfer, context: JobContext) -> None:
    say("started", context)
    async with context.complete_in_transaction() as connection:
        await connection.execute(MOVE, payload.source, payload.target, payload.amount)
        await connection.execute(NOTE, context.job.id)
    say("returned", context)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], tasks)
