"""`trio-graphile doctor`, on a real server."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.program import Program
from trio_graphile import Client, Database, JobSpec
from trio_graphile._database import worker_registry

CHECKS = {
    "connection", "version", "role", "pooling", "notifications", "clock", "sessions", "vacuum", "schema",
    "bloat", "workers", "locks",
}  # fmt: skip


async def findings(program: Program, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    ended = await program.run("doctor", "--json", *arguments)
    assert ended.exit_code == exit_code, ended.errors
    return {finding["check"]: finding for finding in json.loads(ended.output)}


async def test_where_all_is_well_it_says_so(shop: Program, database: Database) -> None:
    await worker_registry.heartbeat(database, "worker-1", {"tasks": ["a"]})
    found = await findings(shop)
    assert found.keys() >= CHECKS
    assert {name: finding["text"] for name, finding in found.items() if finding["level"] == "problem"} == {}
    assert found["schema"]["text"].startswith("schema graphile_worker is up to date, at revision ")
    assert found["notifications"]["level"] == found["pooling"]["level"] == "ok"
    assert "sesame" not in found["connection"]["text"]


async def test_it_says_for_which_workers_no_lock_stands_and_why(shop: Program, database: Database) -> None:
    await worker_registry.heartbeat(database, "worker-1", {"presence": {"key": 1}})
    assert "presence" not in await findings(shop)
    await worker_registry.heartbeat(database, "worker-2", {"presence": {"why_not": "a proxy is between"}})
    found = (await findings(shop))["presence"]
    assert (found["level"], found["text"]) == (
        "note", "no lock stands for 1 live worker (worker-2): a proxy is between",
    )  # fmt: skip


async def test_what_is_wrong_comes_with_what_to_do_about_it(shop: Program, database: Database) -> None:
    first, second = await Client(database).add_raw_jobs(
        [("orphan", None, JobSpec(queue_name="q")), ("orphan", None, JobSpec(queue_name="q"))]
    )
    await Client(database).permanently_fail_jobs([(await Client(database).add_raw_job("bad")).id])
    await worker_registry.heartbeat(database, "worker-1")
    await database.execute("update graphile_worker._private_jobs set run_at = now() - interval '1 hour'")
    await database.execute("""
        update graphile_worker._private_workers set last_heartbeat_at = now() - interval '1 hour'
    """)
    await database.execute(
        """
        update graphile_worker._private_jobs
        set locked_by = 'worker-1', locked_at = now() - interval '3 hours'
        where id = $1::bigint
        """,
        first.id,
    )
    await database.execute("""
        update graphile_worker._private_job_queues
        set locked_by = 'worker-1', locked_at = now() - interval '3 hours'
    """)
    ended = await shop.run("doctor")
    assert ended.exit_code == 1
    assert "problem\tlocks\tworker-1 (dead) has 1 job and 1 queue locked, the latest for 3 h" in ended.output
    assert "with 1 job waiting behind the queues" in ended.output
    assert "warning\ttasks\t1 job of task orphan due since " in ended.output
    assert "note\tfailures\t1 job without an attempt left" in ended.output
    assert "trio-graphile force-unlock worker-1" in ended.errors
    assert ended.errors.endswith("trio-graphile: 1 problem found: see above\n")
    assert second.id


async def test_a_schema_that_is_missing_is_a_problem(program: Program, empty_database_url: str) -> None:
    missing = await findings(program, "--database-url", empty_database_url, exit_code=1)
    assert missing["schema"]["text"] == "schema graphile_worker is not installed"
    assert "trio-graphile migrate" in missing["schema"]["advice"]


async def test_a_schema_that_is_behind_is_a_problem(shop: Program, database: Database) -> None:
    await database.execute("delete from graphile_worker.trio_graphile_migrations where id > 5")
    behind = await findings(shop, exit_code=1)
    assert "lacks " in behind["schema"]["text"]
    assert "locks" in behind, "what can be looked at is"


async def test_a_server_that_is_not_there_is_one_line(program: Program) -> None:
    ended = await program.run("doctor", "--database-url", "postgresql://app:sesame@127.0.0.1:1/x")
    assert "cannot reach PostgreSQL at postgresql://app@127.0.0.1:1/x" in ended.error
    assert ended.exit_code == 1
