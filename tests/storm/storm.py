"""One storm: a fleet under load, ended one process after the other, under one condition."""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import time
from pathlib import Path

import attrs
import trio

from tests.storm.adapters import Contender
from tests.storm.conditions import Condition
from tests.storm.fleet import Adder, Fleet, Member, open_adder, set_up
from tests.storm.marker import read_marks
from tests.storm.ours_client import queue_of
from tests.storm.ours_settings import read_beats
from tests.storm.places import Place
from tests.storm.referee import Added, Evidence, Row, Verdict, judge
from tests.storm.upheavals import disturb
from tests.storm.watch import Watch
from trio_graphile import Database, DatabaseOptions, open_database

_LOOK = 0.2
"""How often the load is topped up, in seconds."""
_LEAST_PATIENCE = 15.0
"""How long jobs that are left get after the last stop while nothing happens, in seconds."""
_BEGINNING = 60.0
"""How long the first handler may take to start, in seconds."""
_AT_ONCE_IN_PEACE = 4
"""How many processes begin at one time before the storm, and end after it."""


@attrs.frozen(kw_only=True)
class Size:
    """How large a storm is."""

    stops: int
    workers: int = 20
    concurrency: int = 4
    at_once: int = 2
    """How many workers are replaced at one time."""
    seed: int = 1


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of it."""

    verdict: Verdict
    evidence: Evidence
    complaints: list[str]
    """Processes that ended by themselves."""
    seconds: float


@attrs.define(eq=False)
class Storm:
    """One storm, while it lasts."""

    fleet: Fleet
    condition: Condition
    size: Size
    watch: Watch
    added: dict[int, Added] = attrs.field(factory=dict)
    uncertain: dict[int, Added] = attrs.field(factory=dict)
    """Jobs that may have been added: the answer was lost."""
    _places: list[Member] = attrs.field(factory=list)
    _in_turn: set[int] = attrs.field(factory=set)
    """The places whose worker is being replaced."""

    async def blow(self, adder: Adder, place: Place) -> None:
        """Start the fleet, end its processes one after the other, and let what is left finish."""
        await self._begin()
        async with trio.open_nursery() as weather:
            weather.start_soon(self.watch.keep_reading)
            weather.start_soon(self._replace_the_fallen)
            async with trio.open_nursery() as load:
                load.start_soon(self._keep_adding, adder)
                if self.condition.upheaval != "none":
                    load.start_soon(disturb, place.servers, self.condition.upheaval)
                with trio.fail_after(_BEGINNING):
                    await self.watch.wait_begun()
                await self._replace_in_turn()
                load.cancel_scope.cancel()
            patience = max(_LEAST_PATIENCE, min(60.0, 10.0 + (self.fleet.contender.recovers_after or 0.0)))
            await self.watch.wait_finished(self.added, patience)
            weather.cancel_scope.cancel()
        await self._end_all()

    # --- the load ---------------------------------------------------------------------------------

    async def _keep_adding(self, adder: Adder) -> None:
        """Keep so many jobs unfinished that a part of the slots has something to do."""
        draw = random.Random(self.size.seed)
        tokens = itertools.count(1)
        wanted = int(self.size.workers * self.size.concurrency * self.condition.busy)
        while True:
            missing = wanted - len(self.added.keys() - self.watch.finished)
            if missing > 0:
                payloads = [
                    self.condition.payload(token, draw) for token in itertools.islice(tokens, missing)
                ]
                jobs = {each["token"]: Added(kind=each["kind"], queue=queue_of(each)) for each in payloads}
                with trio.move_on_after(30, shield=True):  # or we would not know whether they are there
                    certain = await adder.add(json.dumps(payloads).encode())
                    (self.added if certain else self.uncertain).update(jobs)
            await trio.sleep(_LOOK)

    # --- the fleet --------------------------------------------------------------------------------

    async def _begin(self) -> None:
        limiter = trio.CapacityLimiter(_AT_ONCE_IN_PEACE)

        async def start() -> None:
            async with limiter:
                self._places.append(await self.fleet.start())

        async with trio.open_nursery() as nursery:
            for _ in range(self.size.workers):
                nursery.start_soon(start)

    async def _replace_in_turn(self) -> None:
        limiter = trio.CapacityLimiter(self.size.at_once)
        async with trio.open_nursery() as nursery:
            for number in range(self.size.stops):
                await limiter.acquire_on_behalf_of(number)
                nursery.start_soon(self._replace, number % self.size.workers, limiter, number)

    async def _replace(self, place: int, limiter: trio.CapacityLimiter, number: int) -> None:
        """End a worker while its successor begins, as in a rolling deployment."""
        self._in_turn.add(place)
        member = self._places[place]

        async def start() -> None:
            self._places[place] = await self.fleet.start()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start)
            nursery.start_soon(self._end, member)
        self._in_turn.discard(place)
        limiter.release_on_behalf_of(number)

    async def _end(self, member: Member) -> None:
        await self.fleet.end(member)
        if self.condition.killed_after is None:
            await self.watch.look_for_locks(member)

    async def _replace_the_fallen(self) -> None:
        """See that a worker which ended by itself has a successor, as a supervisor would."""
        while True:
            for place, member in enumerate(self._places):
                if place not in self._in_turn and member.process.poll() is not None:
                    self.fleet.note_fall(member)
                    self._places[place] = await self.fleet.start()
            await trio.sleep(_LOOK)

    async def _end_all(self) -> None:
        limiter = trio.CapacityLimiter(_AT_ONCE_IN_PEACE)

        async def end(member: Member) -> None:
            async with limiter:
                await self.fleet.end(member, under_load=False)

        async with trio.open_nursery() as nursery:
            for member in self._places:
                nursery.start_soon(end, member)


async def run_storm(contender: Contender, condition: Condition, place: Place, size: Size) -> Outcome:
    """Have one storm on empty databases, and judge it. Raises `StormFailed`."""
    began = time.monotonic()
    options = DatabaseOptions(pool_size=3, connect_timeout=10.0, statement_timeout=30.0)
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        beats = Path(folder, "beats")
        beats.mkdir()  # noqa: ASYNC240  # before the storm
        fleet = Fleet(
            contender=contender,
            variables=_variables(place, condition, beats),
            concurrency=size.concurrency,
            signals=condition.signals,
            folder=Path(folder),
        )
        await set_up(fleet)
        async with (
            open_database(place.direct_url, options) as observer,
            open_database(place.marks_url, options) as referee,
            open_adder(fleet) as adder,
        ):
            watch = Watch(contender, observer, referee)
            storm = Storm(fleet, condition, size, watch)
            try:
                await storm.blow(adder, place)
            finally:
                with trio.move_on_after(20, shield=True):
                    await fleet.kill_all()
            await watch.look_for_locks_of_all(fleet.members)
            evidence = await _gather(storm, observer, referee, beats)
    return Outcome(
        verdict=judge(evidence),
        evidence=evidence,
        complaints=fleet.complaints,
        seconds=time.monotonic() - began,
    )


def _variables(place: Place, condition: Condition, beats: Path) -> dict[str, str]:
    variables = {
        "STORM_DATABASE_URL": place.url,
        "STORM_MARKS_URL": place.marks_url,
        "STORM_PREFETCH": str(condition.prefetch),
        "STORM_BEATS": str(beats),
    }
    if "stubborn" in condition.kinds:
        variables["STORM_PRESTART"] = "1"
    if place.is_pooled:
        variables["STORM_DIRECT_URL"] = place.direct_url
    return variables


async def _gather(storm: Storm, observer: Database, referee: Database, beats: Path) -> Evidence:
    rows = [Row(**dict(row)) for row in await observer.fetch(storm.fleet.contender.states)]
    marks = await read_marks(referee)
    known = {row.token for row in rows} | {mark.token for mark in marks}
    uncertain = {token: job for token, job in storm.uncertain.items() if token in known}
    return Evidence(
        added={**storm.added, **uncertain},
        marks=marks,
        beats=read_beats(beats),
        departures=[member.departure for member in storm.fleet.members if member.departure is not None],
        rows=rows,
        left_locked=storm.watch.left_locked,
    )
