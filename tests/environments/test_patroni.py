"""Patroni, which promotes and demotes by itself: what workers do meanwhile, and that nothing is lost."""

from __future__ import annotations

import pytest

from tests.environments.fleets import check_nothing_lost, fleet
from tests.environments.patronis import missing, open_patroni
from trio_graphile import Client, TaskRegistry

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"there is no {missing()}"),
]


async def test_patroni_switches_over_and_replaces_a_killed_primary_at_no_cost() -> None:
    """First as planned, by patronictl; then PostgreSQL is killed, and Patroni left to itself."""
    async with open_patroni() as patroni:
        async with patroni.primary() as database:
            await Client(database, TaskRegistry()).migrate()
        async with fleet(patroni.url) as run:
            primary = await patroni.switch_over()
            await run.wait_resumed()
            await patroni.wait_whole()  # else nobody may replace the new primary
            primary.kill_server()
            await run.wait_resumed()
            assert await patroni.find_primary() != primary
        await check_nothing_lost(patroni.url, run)
