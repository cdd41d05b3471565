"""`trio-graphile bench`, on a real server: it measures, and leaves nothing behind."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.program import Program
from trio_graphile import Client, Database
from trio_graphile.cli._bench import percentile

SCHEMAS = (
    "select nspname::text as name from pg_catalog.pg_namespace where nspname like 'trio_graphile_bench%'"
)
FLAGS = ("--concurrency", "5", "--local-queue.size", "50")


async def test_it_measures_in_a_schema_of_its_own_and_drops_it(shop: Program, database: Database) -> None:
    job = await Client(database).add_raw_job("nothing")
    ended = await shop.run("bench", "--jobs", "300", "--samples", "5", *FLAGS, "--json")
    assert ended.exit_code == 0, ended.errors
    assert "measuring in the schema trio_graphile_bench_" in ended.error
    assert "sesame" not in ended.error
    figures = json.loads(ended.output)
    assert (figures["jobs"], figures["samples"], figures["concurrency"]) == (300, 5, 5)
    assert figures["jobs_per_second"] > 0
    assert 0 < figures["latency_seconds"]["p50"] <= figures["latency_seconds"]["max"]
    assert await database.fetch(SCHEMAS) == []
    [left] = await database.fetch("select id, attempts from graphile_worker.jobs")
    assert dict(left) == {"id": job.id, "attempts": 0}


async def test_it_speaks_in_a_table(shop: Program) -> None:
    ended = await shop.run("bench", "--jobs", "10", "--samples", "1", *FLAGS)
    lines = ended.output.splitlines()
    assert lines[0] == "measured\tfigure\tunit"
    assert [line.split("\t")[0] for line in lines[1:]] == [
        "jobs added in bulk", "jobs handled", "latency, median", "latency, 95 %", "latency, 99 %",
        "latency, worst",
    ]  # fmt: skip


async def test_interrupted_it_leaves_nothing_behind_either(shop: Program, database: Database) -> None:
    async with shop.running("bench", "--samples", "1000000", "--jobs", "1", *FLAGS) as running:
        await running.wait_for("measuring in the schema trio_graphile_bench_")
        running.send(signal.SIGINT)
        assert await running.wait_ended() == 130
    assert await database.fetch(SCHEMAS) == []


async def test_numbers_that_make_no_sense_are_wrong_usage(program: Program) -> None:
    ended = await program.run("bench", "--jobs", "0")
    assert (ended.exit_code, ended.error) == (
        2,
        "trio-graphile: --jobs and --samples are numbers from 1 to 10000000",
    )


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([1.0], 0.5, 1.0), ([2.0, 1.0], 0.5, 1.0), ([4.0, 3.0, 2.0, 1.0], 0.95, 4.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, found: float) -> None:
    assert percentile(values, share) == found
