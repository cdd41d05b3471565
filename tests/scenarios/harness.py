"""End a worker's run at its k-th scheduling point, for every k, and look at what is left in the database.

A scheduling point is a step of any Trio task, the bridge's asyncio loop included: everything that can happen
between two steps is covered by ending the run at each of them. They are counted from the first step of
`Worker.run` on, so those at which a worker starts are among them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import attrs
import pytest
import trio

from tests.scenarios.aftermath import Aftermath
from tests.scenarios.endings import Ending
from tests.scenarios.trial import FLUSH_TIMEOUT, GRACE_PERIOD, Scenario, Trial
from tests.support.looking_back import have_all_claims_look_back
from tests.support.maintenance import have_chores_done_at_once, have_the_first_claim_forget
from trio_graphile import Client, Database, open_database
from trio_graphile._database.session import persist
from trio_graphile._worker import recorder
from trio_graphile.testing._points import ActAt

SLACK = 2.0
"""For a slow machine: the bound itself is what is tested, not the machine."""
LONGEST_RUN = 30.0

EMPTY = """
    drop trigger if exists unwritable on graphile_worker._private_jobs;
    update graphile_worker._private_jobs set locked_by = null;
    delete from graphile_worker._private_jobs;
    delete from graphile_worker.trio_graphile_cancellations;
    delete from graphile_worker._private_workers;
    create table if not exists public.effects (job_id bigint primary key);
    delete from public.effects;
    delete from graphile_worker._private_job_queues;
    delete from graphile_worker._private_known_crontabs
"""


@attrs.frozen
class Stage:
    """One database, as the worker reaches it and as everybody else does."""

    database_url: str
    observer: Database
    _counts: dict[str, int]
    """How many points each scenario has that was counted, by whatever stage of this run of the tests."""

    async def count_undisturbed(self, name: str, scenario: Scenario) -> int:
        """Return how many points a scenario has if nothing happens. The first time it is run for that."""
        if name not in self._counts:
            self._counts[name] = await self.end_at(scenario, None, _fail)
        return self._counts[name]

    async def end_at(self, scenario: Scenario, point: int | None, ending: Ending) -> int:
        """Run the scenario afresh, have something happen at a point, check what is left.

        Returns how many points there were.
        """
        await persist(self._empty, what="emptying")
        async with open_database(self.database_url, scenario.database) as database:
            trial = Trial(
                database, self.observer, urlsplit(self.database_url).path.removeprefix("/"), scenario
            )
            client = Client(self.observer, trial.tasks)
            await scenario.add(client)
            if not scenario.installs:
                rows = await self.observer.fetch("select id, task_identifier from graphile_worker.jobs")
                trial.job_ids = {row["id"]: row["task_identifier"] for row in rows}
            instrument = ActAt(point, lambda: ending(trial))
            with trio.fail_after(LONGEST_RUN), _settings(scenario):
                await trial.run(instrument.installed())
            ended = trio.current_time()
        if scenario.installs:
            await persist(client.migrate, what="migrating")  # whatever became of the worker's own try
        await Aftermath(trial).check()
        if trial.ended_at is not None:
            took = ended - trial.ended_at
            assert took <= GRACE_PERIOD + FLUSH_TIMEOUT + SLACK, f"it took {took:.1f} s to end"
        return instrument.count

    async def _empty(self) -> None:
        await self.observer.execute(EMPTY)


def _fail(trial: Trial) -> None:
    raise AssertionError(f"something happened to {trial}, though nothing was to")


@contextlib.contextmanager
def _settings(scenario: Scenario) -> Iterator[None]:
    """Set what no option sets."""
    with pytest.MonkeyPatch.context() as patch:
        if scenario.looks_back:
            have_all_claims_look_back(patch)
        if scenario.does_chores:
            have_chores_done_at_once(patch)
            have_the_first_claim_forget(patch)
        if scenario.most_unwritten is not None:
            patch.setattr(recorder, "_MOST_WAITING", scenario.most_unwritten)
        yield
