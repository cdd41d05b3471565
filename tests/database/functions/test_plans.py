"""The plans of the functions' statements."""

from __future__ import annotations

import pytest

from trio_graphile._database.database import Database


@pytest.mark.parametrize(
    "statement",
    [
        "select graphile_worker.add_job('t', job_key => 'k' || n) from generate_series(1, 20) as n",
        """
        select graphile_worker.add_jobs(
          array[
            row('t', null, null, null, null, 'k', null, null),
            row('t', null, null, null, null, 'l', null, null)
          ]::graphile_worker.job_spec[]
        )
        """,
        "select graphile_worker.remove_job('k')",
        "select graphile_worker.reschedule_jobs('{1}', priority => 1)",
        "select graphile_worker.permanently_fail_jobs('{1}')",
        "select graphile_worker.complete_jobs('{1}')",
    ],
)
async def test_a_plan_made_for_an_empty_table_does_not_read_all_of_a_full_one(
    database: Database, statement: str
) -> None:
    """An emptied table that was vacuumed has no pages, and to read none of them is the cheapest of plans."""
    await database.execute("vacuum graphile_worker._private_jobs")
    async with database.connection() as connection:
        for _ in range(8):  # from the sixth time on, a session keeps its plan
            await connection.execute(statement)
            await connection.execute("delete from graphile_worker._private_jobs")
        await connection.execute(
            "insert into graphile_worker._private_jobs (task_id) select 1 from generate_series(1, 2000)"
        )
        async with connection.transaction():
            before = await connection.fetch_value(ROWS_READ_ONE_BY_ONE)
            await connection.execute(statement)
            assert await connection.fetch_value(ROWS_READ_ONE_BY_ONE) == before


ROWS_READ_ONE_BY_ONE = "select seq_tup_read from pg_stat_xact_user_tables where relname = '_private_jobs'"
