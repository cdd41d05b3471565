"""Runs every benchmark of every contender in turn, and prints what came out."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Arena, Contender, contenders
from tests.benchmarks.report import Results, machine_facts, markdown
from trio_graphile.embedded import embedded_postgres

BENCHMARKS = ("drain", "latency", "add")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--jobs", type=int, default=50_000, help="how many jobs are drained")
    parser.add_argument("--bulk", type=int, default=100_000, help="how many jobs are added by one call")
    parser.add_argument("--adds", type=int, default=300, help="how many jobs are added one by one")
    parser.add_argument("--only", default="", metavar="TEXT", help="contenders with this in their names")
    parser.add_argument("--benchmarks", nargs="+", choices=BENCHMARKS, default=BENCHMARKS)
    parser.add_argument("--directory", help="where the server keeps its temporary folder")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every single result there")
    return parser.parse_args()


async def main() -> None:
    options = parse_arguments()
    with (
        tempfile.TemporaryDirectory(prefix="benchmarks-", dir=options.directory) as folder,
        contenders() as all_,
    ):
        chosen = [contender for contender in all_ if options.only in contender.name]
        # A folder that is given is as durable as PostgreSQL's defaults make it.
        async with embedded_postgres(Path(folder) / "postgres") as server:
            facts = await machine_facts(server, folder)
            results = await compare(Arena(server), chosen, options)
    print(markdown(facts, results))
    if options.json:
        report = {"machine": facts, "options": vars(options), "results": results}
        options.json.write_text(json.dumps(report, indent=2, default=str) + "\n")


async def compare(arena: Arena, chosen: list[Contender], options: argparse.Namespace) -> Results:
    results: Results = {contender.name: {} for contender in chosen}
    for number in range(options.rounds):
        # Each round starts with another, so that nobody always follows the same one.
        turn = number % len(chosen)
        for contender in chosen[turn:] + chosen[:turn]:
            for benchmark in options.benchmarks:
                print(
                    f"round {number + 1} of {options.rounds}: {contender.name}: {benchmark}", file=sys.stderr
                )
                result = await run_one(arena, contender, benchmark, options)
                results[contender.name].setdefault(benchmark, []).append(result)
    return results


async def run_one(
    arena: Arena, contender: Contender, benchmark: str, options: argparse.Namespace
) -> dict[str, Any]:
    match benchmark:
        case "drain":
            return await arena.drain(contender, options.jobs)
        case "latency":
            return await arena.latency(contender, options.adds)
        case _:
            return await arena.add(contender, options.bulk, options.adds)
