"""Everything that can go wrong, at once: for some seconds here, for minutes with `nox -s soak`."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.conftest import Figures
from tests.faults.load import check_nothing_locked
from tests.faults.soak import open_soak
from tests.support.shares import Share
from trio_graphile import Database

pytestmark = pytest.mark.everywhere  # each interpreter has other seconds of it

PLACES = 3


@pytest.mark.timeout(0)
async def test_nothing_is_lost_and_no_slot_dies_whatever_goes_wrong(
    database: Database, database_url: str, figures: Figures, request: pytest.FixtureRequest
) -> None:
    share = Share.of_run(request.config)
    seconds = request.config.getoption("--seconds") / share.of
    seed = request.config.getoption("--seed") + share.number - 1
    met: Counter[str] = Counter()
    async with open_soak(database, [database_url] * PLACES, seed) as soak:
        await soak.run(seconds)
    for place in soak.places:
        assert not place.violations, place.violations
        met += place.ends + place.injector.named_counts
    for what, count in met.items():
        figures.note(what, count)
    figures.note("jobs", len(soak.load.runs))
    figures.note("jobs whose fate could not be written", soak.load.check_soaked())
    await check_nothing_locked(database)
