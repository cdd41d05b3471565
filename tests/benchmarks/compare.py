"""Runs every workload of every contender in turn, and tells what came out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.arena import Arena, Result
from tests.benchmarks.contenders import PEERS, Contender, available
from tests.benchmarks.facts import machine_facts
from tests.benchmarks.install import default_cache
from tests.benchmarks.plot import svg
from tests.benchmarks.report import Measurement, markdown
from tests.benchmarks.sizes import Sizes, add_size_options, chosen_sizes
from tests.benchmarks.workloads import WORKLOADS, Workload
from tests.support.folders import passable_folder
from trio_graphile.embedded import embedded_postgres

_SESSIONS = "300"  # four processes of Node's open more than PostgreSQL allows by default


def parse_arguments() -> argparse.Namespace:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="how often each is measured (3)")
    add("--workloads", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    add("--peers", nargs="*", choices=PEERS, default=list(PEERS), metavar="NAME", help=", ".join(PEERS))
    add("--only", nargs="+", metavar="TEXT", help="contenders with any of these in their names")
    add("--timeout", type=float, default=900.0, help="seconds for one run of one contender (900)")
    add("--directory", help="where the server keeps its temporary folder")
    add("--cache", type=Path, default=default_cache(), help="where peers are installed (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write every single result there")
    add("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    add("--plot", type=Path, metavar="FILE", help="draw a picture there, as SVG")
    add("--render", type=Path, metavar="FILE", help="measure nothing: tell what such a JSON file says")
    add_size_options(parser)
    return parser.parse_args()


async def main() -> None:
    options = parse_arguments()
    if options.render:
        report = json.loads(options.render.read_text())
        tell(options, report["machine"], [Measurement(**each) for each in report["measurements"]])
        return
    contenders = [each for each in available(options.peers, options.cache) if _is_wanted(each, options.only)]
    with passable_folder(options.directory) as folder:
        # A folder that is given is as durable as PostgreSQL's defaults make it.
        async with embedded_postgres(folder / "postgres", settings={"max_connections": _SESSIONS}) as server:
            facts = await machine_facts(server, folder)
            measurements = await compare(Arena(server, options.timeout), contenders, options)
    tell(options, facts, measurements)


def tell(options: argparse.Namespace, facts: dict[str, Any], measurements: list[Measurement]) -> None:
    """Print the tables, and write what is to be written."""
    tables = markdown(facts, measurements)
    print(tables)
    if options.markdown:
        options.markdown.write_text(tables + "\n")
    if options.plot:
        options.plot.write_text(svg(measurements))
    if options.json and not options.render:
        report = {
            "machine": facts,
            "options": vars(options),
            "measurements": [attrs.asdict(each) for each in measurements],
        }
        options.json.write_text(json.dumps(report, indent=1, default=str) + "\n")


async def compare(
    arena: Arena, contenders: list[Contender], options: argparse.Namespace
) -> list[Measurement]:
    """Measure in rounds; within one, whoever takes part in a workload does it one after the other."""
    measurements: list[Measurement] = []
    began = time.monotonic()
    for number in range(options.rounds):
        for workload in _workloads_of(number, options):
            for contender in _in_turn(contenders, workload, number):
                at = f"{time.monotonic() - began:6.0f} s, round {number + 1} of {options.rounds}"
                print(f"{at}: {workload.name}: {contender.name}", file=sys.stderr, flush=True)
                measurements += await _measure(arena, contender, workload, number, chosen_sizes(options))
    return measurements


async def _measure(
    arena: Arena, contender: Contender, workload: Workload, number: int, sizes: Sizes
) -> list[Measurement]:
    measurements = []

    def keep(case: str, result: Result) -> None:
        measurements.append(
            Measurement(
                workload=workload.name,
                case=case,
                project=contender.project,
                settings=contender.settings,
                round=number,
                result=result,
            )
        )

    try:
        async for case, result in workload.measure(arena, contender, sizes):
            keep(case, result)
    except Exception as error:  # noqa: BLE001 (the others shall still have their turn)
        print(f"  FAILED: {error!r}", file=sys.stderr, flush=True)
        keep("failed", {"error": repr(error)})
    return measurements


def _is_wanted(contender: Contender, texts: list[str] | None) -> bool:
    return texts is None or any(text.lower() in contender.name.lower() for text in texts)


def _workloads_of(number: int, options: argparse.Namespace) -> Iterable[Workload]:
    for workload in WORKLOADS:
        if workload.name in options.workloads and (number == 0 or options.full or not workload.once):
            yield workload


def _in_turn(contenders: list[Contender], workload: Workload, number: int) -> list[Contender]:
    """Each round starts with another, so that nobody always follows the same one."""
    taking_part = [contender for contender in contenders if workload.name in contender.workloads]
    turn = number % len(taking_part) if taking_part else 0
    return taking_part[turn:] + taking_part[:turn]
