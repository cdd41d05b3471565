"""Has storms over everybody, one after the other, and tells what came of them."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.benchmarks.facts import machine_facts
from tests.benchmarks.install import Unavailable, default_cache
from tests.storm import ours
from tests.storm.adapters import Contender, available, peer_names
from tests.storm.conditions import CONDITIONS, Condition
from tests.storm.fleet import StormFailed
from tests.storm.places import Servers, open_servers
from tests.storm.plot import svg
from tests.storm.report import Result, markdown, to_json, with_tables
from tests.storm.storm import Outcome, Size, run_storm
from trio_graphile._model.groups import leaves

OURS = "ours"
_TIMEOUT = 3600.0
"""How many seconds one storm may take."""


def parse_arguments() -> argparse.Namespace:
    names = [condition.name for condition in CONDITIONS]
    everybody = [OURS, *peer_names()]
    parser = argparse.ArgumentParser(prog="python tests/storm", description=__doc__)
    add = parser.add_argument
    add("--peers", nargs="+", choices=everybody, default=everybody, metavar="NAME", help=", ".join(everybody))
    add("--conditions", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    add("--stops", type=int, default=1000, help="how many workers of each contender are ended in all (1000)")
    add("--workers", type=int, default=20, help="how many processes a fleet has (20)")
    add("--concurrency", type=int, default=4, help="how many slots each has (4)")
    add("--at-once", type=int, default=2, help="how many are replaced at one time (2)")
    add("--slack", type=float, default=2.0, help="how many seconds more than promised an exit may take (2)")
    add("--seed", type=int, default=1, help="of what is drawn at random (1)")
    add("--cache", type=Path, default=default_cache(), help="where peers are installed (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the results there, and add to those that are there")
    add("--plot", type=Path, metavar="FILE", help="draw a picture there, as SVG")
    add("--page", type=Path, metavar="FILE", help="write the tables into this page, between its markers")
    add("--render", type=Path, metavar="FILE", help="measure nothing: tell what such a JSON file says")
    return parser.parse_args()


async def main() -> int:
    """Return the program's exit code: 1 if a count of ours is not 0."""
    options = parse_arguments()
    if options.render:
        read = json.loads(options.render.read_text())
        tell(options, read["machine"], [Result.from_json(each) for each in read["results"]])
        return 0
    results = measured_before(options)
    async with open_servers() as servers:
        with tempfile.TemporaryDirectory() as folder:
            facts = await machine_facts(servers.queue, folder)
        async for result in storms(servers, options):
            results = [each for each in results if each.which != result.which] + [result]
            keep(options, facts, results)
    tell(options, facts, results)
    bad = [each for each in results if ours.is_ours(each.project) and not is_well(each)]
    for result in bad:
        print(f"{result.condition}: {result.verdict and result.verdict.faults}", file=sys.stderr)
    return 1 if bad else 0


def keep(options: argparse.Namespace, facts: dict[str, Any], results: Sequence[Result]) -> None:
    """Write what there is so far, so that no more is lost than one storm."""
    if options.json:
        options.json.write_text(json.dumps(to_json(facts, results), indent=1, default=str) + "\n")


def measured_before(options: argparse.Namespace) -> list[Result]:
    """Return what the file has of other contenders and conditions."""
    if not options.json or not options.json.exists():
        return []
    return [Result.from_json(each) for each in json.loads(options.json.read_text())["results"]]


def tell(options: argparse.Namespace, facts: dict[str, Any], results: Sequence[Result]) -> None:
    """Print the tables, and write what is to be written."""
    tables = markdown(facts, results)
    print(tables)
    if options.page:
        options.page.write_text(with_tables(options.page.read_text(), tables))
    if options.plot:
        options.plot.write_text(svg(results))


def is_well(result: Result) -> bool:
    return result.verdict is not None and not result.verdict.faults


async def storms(servers: Servers, options: argparse.Namespace) -> AsyncIterator[Result]:
    """Yield what came of each storm. Within one condition everybody has it before the next."""
    contenders = [ours.contender()] if OURS in options.peers else []
    contenders += available([name for name in options.peers if name != OURS], options.cache)
    began = time.monotonic()
    for condition in _chosen(options):
        for contender in contenders:
            if condition.for_peers or ours.is_ours(contender.project):
                size = Size(
                    stops=_share(options, condition),
                    workers=options.workers,
                    concurrency=options.concurrency,
                    at_once=options.at_once,
                    seed=options.seed,
                )
                at = f"{time.monotonic() - began:6.0f} s"
                print(f"{at}: {condition.name}: {contender.project}", file=sys.stderr, flush=True)
                yield await _measure(servers, contender, condition, size)


def _share(options: argparse.Namespace, condition: Condition) -> int:
    """Return how many of the stops of a whole run fall to one condition."""
    chosen = _chosen(options)
    stops: int = options.stops
    return (stops + len(chosen) - 1 - chosen.index(condition)) // len(chosen)


def _chosen(options: argparse.Namespace) -> list[Condition]:
    named = [each for each in CONDITIONS if each.name in options.conditions]
    return [attrs.evolve(condition, slack=options.slack) for condition in named]


async def _measure(servers: Servers, contender: Contender, condition: Condition, size: Size) -> Result:
    outcome: Outcome | None = None
    failures: list[BaseException] = []
    try:
        with trio.fail_after(_TIMEOUT):
            async with servers.place(condition) as place:
                outcome = await run_storm(contender, condition, place, size)
    except* (Unavailable, StormFailed, trio.TooSlowError) as group:  # alone, or out of the storm's nurseries
        failures += leaves(group)
    if outcome is None:
        reason = "; ".join(map(repr, failures))
        print(f"  FAILED: {reason}", file=sys.stderr, flush=True)
        return Result.of(contender, condition, size, reason)
    faults = outcome.verdict.faults
    print(f"  {outcome.seconds:.0f} s, {faults or 'all counts are 0'}", file=sys.stderr, flush=True)
    return Result.of(contender, condition, size, outcome)
