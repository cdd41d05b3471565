"""Ctrl-C, wherever it strikes: the program ends, of a KeyboardInterrupt, and leaves nothing locked."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from tests.faults import interrupted
from tests.faults.conftest import Figures
from tests.faults.fleet import Fleet, Member
from tests.faults.load import PATIENCE, check_nothing_locked
from trio_graphile import Client, Database

ENDINGS = {1, -signal.SIGINT}
"""Of a KeyboardInterrupt in a group, and of one by itself."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("interrupts", [6, pytest.param(60, marks=pytest.mark.exhaustive)])
async def test_an_interrupted_program_ends_and_leaves_nothing_locked(
    database: Database, database_url: str, figures: Figures, interrupts: int
) -> None:
    fleet, client = Fleet(database_url, Path(interrupted.__file__)), Client(database)
    async with trio.open_nursery() as nursery:
        for number in range(interrupts):
            await client.add_raw_jobs([("brief", None)] * 300)
            member = await fleet.start(nursery)
            await fleet.wait_until(lambda member=member, number=number: busy(member, number))  # type: ignore[misc]
            member.process.send_signal(signal.SIGINT)
            with trio.fail_after(PATIENCE):
                assert await member.process.wait() in ENDINGS
            await check_nothing_locked(database)
    figures.note("programs interrupted", interrupts)


def busy(member: Member, number: int) -> bool:
    """Whether it has run some jobs, and not always as many."""
    return len(member.runs) > number % 40
