"""One look serves all who watch; when nobody does, there is the sample of the minute alone."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import attrs
import pytest
import trio

from trio_graphile import Client, Database, open_database
from trio_graphile._database import worker_registry
from trio_graphile._database.samples import read_samples
from trio_graphile.admin._live.looks import Looks, TooManyViewers
from trio_graphile.admin._live.points import Look, Points

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
PATIENCE = 20
NEVER = 3600.0


@asynccontextmanager
async def looking(looks: Looks) -> AsyncIterator[Looks]:
    async with trio.open_nursery() as nursery:
        await nursery.start(looks.run)
        with trio.fail_after(PATIENCE):  # noqa: ASYNC100  # the body has some
            yield looks
        nursery.cancel_scope.cancel()


async def seen(looks: Looks) -> Look:
    while looks.latest is None:
        await looks.news.wait()
    return looks.latest


async def test_who_watches_sees_what_is_there_and_what_comes(database: Database) -> None:
    client = Client(database)
    await client.add_raw_job("a")
    await worker_registry.heartbeat(database, "w", {"pid": 1})
    async with looking(Looks(database=database, interval=0.02)) as looks:
        with looks.watching("me"):
            look = await seen(looks)
            assert look.counts.ready.value == 1
            assert [worker.worker_id for worker in look.workers] == ["w"]
            await client.add_raw_job("a")
            while looks.latest is None or looks.latest.counts.ready.value == 1:
                await looks.news.wait()


async def test_a_job_that_was_announced_is_news_though_the_counts_are_as_before(database: Database) -> None:
    async with looking(Looks(database=database, interval=0.02)) as looks:
        with looks.watching("me"):
            await seen(looks)
            looked, changed = looks.looked, looks.changed
            while looks.changed == changed:  # it may not listen yet
                await database.execute("select pg_notify('jobs:insert', '{\"count\": 1}')")
                await trio.lowlevel.checkpoint()
            assert looks.looked == looked


async def test_many_notifications_are_one_piece_of_news_a_look(database: Database) -> None:
    async with looking(Looks(database=database, interval=0.2)) as looks:
        with looks.watching("me"):
            await seen(looks)
            began, changed = trio.current_time(), looks.changed
            while looks.changed < changed + 3:
                await database.execute("select pg_notify('jobs:insert', '')")
            assert trio.current_time() - began > 0.2 * 2 - 0.2


async def test_however_many_watch_they_are_served_by_the_same_look(database: Database) -> None:
    async with looking(Looks(database=database, interval=NEVER)) as looks:
        with looks.watching("one"), looks.watching("another"):
            look = await seen(looks)
            with looks.watching("third"):
                assert looks.latest is look


async def test_nothing_is_looked_at_when_nobody_watches(database: Database) -> None:
    looks = Looks(database=database, interval=0.01, linger=0.0)
    async with looking(looks):
        with looks.watching("me"):
            await seen(looks)
        while looks.latest is not None:  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()
        sessions = """
            select count(*)
            from pg_stat_activity
            where application_name like '%listen' and datname = current_database()
        """
        while await database.fetch_value(sessions):  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()
        with looks.watching("me"):
            await seen(looks)


async def test_who_goes_from_page_to_page_has_not_gone(database: Database) -> None:
    looks = Looks(database=database, interval=NEVER, linger=NEVER)
    async with looking(looks):
        with looks.watching("me"):
            look = await seen(looks)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert looks.latest is look


async def test_a_sample_is_written_though_nobody_watches(database: Database) -> None:
    async with looking(Looks(database=database)):
        while not await read_samples(database, LONG_AGO):  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()


async def test_without_writing_samples_are_kept_in_memory(database: Database) -> None:
    await Client(database).add_raw_job("a")
    points = Points(database=database, interval=0.0)
    looks = Looks(database=database, writes=False, sample_interval=0.01, points=points)
    async with looking(looks):
        while len(looks.points.samples) < 2:  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()
    first, second = looks.points.samples[:2]
    assert (first.ready, first.tasks, second.tasks) == (1, None, {})
    assert first.at < second.at
    assert await database.fetch_value("select count(*) from graphile_worker.trio_graphile_samples") == 0


async def test_no_more_than_so_many_samples_are_kept_in_memory(database: Database) -> None:
    points = Points(database=database, interval=0.0, most=2)
    looks = Looks(database=database, writes=False, sample_interval=0.01, points=points)
    async with looking(looks):
        while len(looks.points.samples) < 2:  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()
        seen_first, latest = looks.points.samples
        while looks.points.samples[-1] is latest:  # noqa: ASYNC110  # the database tells nobody when
            await trio.lowlevel.checkpoint()
    assert len(looks.points.samples) == 2
    assert looks.points.samples[0] is not seen_first


async def test_a_server_that_does_not_take_it_is_only_looked_at(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    separator = "&" if "?" in database_url else "?"
    url = f"{database_url}{separator}options=-c%20default_transaction_read_only%3Don"
    async with open_database(url) as database:
        async with looking(Looks(database=database)) as looks:
            while not looks.points.samples:  # noqa: ASYNC110  # the database tells nobody when
                await trio.lowlevel.checkpoint()
        assert await read_samples(database, LONG_AGO) == []
    assert caplog.messages == []


async def test_while_somebody_watches_there_are_points_between_the_minutes(database: Database) -> None:
    points = Points(database=database, interval=0.0)
    looks = Looks(database=database, interval=0.01, points=points)
    async with looking(looks):
        with looks.watching("me"):
            while len(looks.points.samples) < 3:  # noqa: ASYNC110  # the database tells nobody when
                await trio.lowlevel.checkpoint()


async def test_what_fails_is_said_once_and_tried_again(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trio_graphile.admin")
    rename = "alter table graphile_worker.{} rename to {}"
    async with looking(Looks(database=database, interval=0.01, sample_interval=NEVER)) as looks:
        with looks.watching("me"):
            await seen(looks)
            await database.execute(rename.format("_private_jobs", "elsewhere"))
            while not caplog.messages:  # noqa: ASYNC110  # the database tells nobody when
                await trio.lowlevel.checkpoint()
            began = trio.current_time()
            while trio.current_time() < began + 0.1:  # noqa: ASYNC110  # the database tells nobody when
                await trio.lowlevel.checkpoint()
            await database.execute(rename.format("elsewhere", "_private_jobs"))
            await Client(database).add_raw_job("a")
            while looks.latest is None or looks.latest.counts.ready.value == 0:
                await looks.news.wait()
    [line] = [message for message in caplog.messages if message.startswith("looking at the queue failed")]
    assert "_private_jobs" in line


async def test_without_a_session_that_can_listen_the_looks_show_what_comes(database: Database) -> None:
    database.options = attrs.evolve(database.options, prepared_statements=False)
    async with looking(Looks(database=database, interval=0.02)) as looks:
        with looks.watching("me"):
            await seen(looks)
            await Client(database).add_raw_job("a")
            while looks.latest is None or looks.latest.counts.ready.value == 0:
                await looks.news.wait()


async def test_there_is_an_end_to_how_many_may_watch(database: Database) -> None:
    looks = Looks(database=database)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(looks.watching("me"))
        with pytest.raises(TooManyViewers), looks.watching("me"):
            pass
        for number in range(58):
            stack.enter_context(looks.watching(f"client {number}"))
        with pytest.raises(TooManyViewers), looks.watching("one more"):
            pass
    with looks.watching("me"):
        pass
