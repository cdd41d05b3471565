"""What a page of a list costs does not depend on how many jobs there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.database.random_jobs import add_random_jobs, buffers_of, plan_of, scanned_tables, vacuum_jobs
from trio_graphile import Connection
from trio_graphile._database.search import conditions, find, payload, read, windows
from trio_graphile._database.statement import Statement
from trio_graphile._database.summaries.failures import FIND_FAILED_TASKS

N = 200_000  # beyond which their indexes are as deep as those of twice as many
WINDOW = 300
SHARE = 40
STATES = ["ready", "scheduled", "locked", "failed"]
TASKS, QUEUES = [*range(1, 7)], [*range(1, 9)]
ANY = (STATES, *[None] * 7)
TEXT = (STATES, *[None] * 5, "nowhere", None)
MIDDLE = N // 2
FIRST_PLACE = (-(2**15), -(2**63), -(2**63))
LAST_PLACE = (2**15 - 1, 2**63 - 1, 2**63 - 1)

STATEMENTS: dict[str, tuple[Statement, tuple[object, ...]]] = {
    "ascending": (windows.ASCENDING, (*ANY, MIDDLE, 20_000, 51)),
    "descending": (windows.DESCENDING, (*ANY, MIDDLE, 20_000, 51)),
    "ascending, text": (windows.ASCENDING, (*TEXT, MIDDLE, WINDOW, 51)),
    "descending, text": (windows.DESCENDING, (*TEXT, MIDDLE, WINDOW, 51)),
    "ids": (windows.ASCENDING_AMONG, (*ANY, 0, WINDOW, 51, [5, MIDDLE, N])),
    "ids, descending": (windows.DESCENDING_AMONG, (*ANY, 2 * N, WINDOW, 51, [5, MIDDLE, N])),
    "next": (windows.NEXT_OF_TASKS, (*ANY, TASKS, *FIRST_PLACE, SHARE, 51)),
    "next, text": (windows.NEXT_OF_TASKS, (*TEXT, TASKS, *FIRST_PLACE, SHARE, 51)),
    "next, backward": (windows.NEXT_OF_TASKS_BACKWARD, (*ANY, TASKS, *LAST_PLACE, SHARE, 51)),
    "next of queues": (windows.NEXT_OF_QUEUES, (*ANY, QUEUES, *FIRST_PLACE, SHARE, 51)),
    "next of queues, backward": (windows.NEXT_OF_QUEUES_BACKWARD, (*ANY, QUEUES, *LAST_PLACE, SHARE, 51)),
    "failed": (windows.LATEST_FAILED, (*ANY, TASKS, *LAST_PLACE, SHARE, 51)),
    "failed, text": (windows.LATEST_FAILED, (*TEXT, TASKS, *LAST_PLACE, SHARE, 51)),
    "failed, backward": (windows.EARLIEST_FAILED, (*ANY, TASKS, *FIRST_PLACE, SHARE, 51)),
    "tasks": (find.FIND_AVAILABLE_TASKS, (1001,)),
    "failed tasks": (FIND_FAILED_TASKS, (1001,)),
    "key": (conditions.FIND_KEY, ("key",)),
    "read": (read.READ_JOBS, ([5, MIDDLE, N],)),
    "read, escaped": (read.READ_ESCAPED, ([5, MIDDLE, N],)),
    "payload": (payload.READ_PAYLOAD, (MIDDLE,)),
}
READ_TIE = """
    select jobs.priority, jobs.id,
      ('x' || encode(timestamptz_send(jobs.run_at), 'hex'))::bit(64)::bigint as run_at
    from graphile_worker._private_jobs as jobs
    where jobs.is_available
      and jobs.id > $1::bigint
      and jobs.run_at = (
        select jobs.run_at
        from graphile_worker._private_jobs as jobs
        group by jobs.run_at
        order by count(*) desc
        limit 1
      )
    order by jobs.priority, jobs.id
    limit 1
"""


async def look(connection: Connection, seed: float) -> dict[str, Mapping[str, Any]]:
    """Add so many jobs, and return the plan of each statement."""
    await add_random_jobs(connection, N, seed)
    await vacuum_jobs(connection)
    [tie] = await connection.fetch(READ_TIE, MIDDLE)
    place = (tie["priority"], tie["run_at"], tie["id"])
    in_tie: dict[str, tuple[Statement, tuple[object, ...]]] = {
        "next, in a tie": (windows.NEXT_OF_TASKS, (*ANY, TASKS, *place, SHARE, 51)),
        "next of queues, in a tie": (windows.NEXT_OF_QUEUES, (*ANY, QUEUES, *place, SHARE, 51)),
        "failed, in a tie": (windows.LATEST_FAILED, (*ANY, TASKS, *place, SHARE, 51)),
    }
    return {
        name: await plan_of(connection, statement, *arguments)
        for name, (statement, arguments) in (STATEMENTS | in_tie).items()
    }


def allowed(pages: int) -> float:
    """Return how many pages a statement may look at for so many before: an index may grow a level."""
    return max(1.2 * pages, pages + 1)


async def test_twice_as_many_jobs_cost_no_more(connection: Connection) -> None:
    """Half of them are due at the same time. The table itself is never read."""
    before, after = [await look(connection, seed) for seed in (0.1, 0.2)]
    cost = {name: (buffers_of(before[name]), buffers_of(plan)) for name, plan in after.items()}
    assert {name: both for name, both in cost.items() if both[1] > allowed(both[0])} == {}
    assert max(many for _, many in cost.values()) < 2000
    assert {name for name, plan in after.items() if "_private_jobs" in scanned_tables(plan)} == set()
