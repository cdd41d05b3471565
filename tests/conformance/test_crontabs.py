"""Two kinds of workers share a crontab: each of its times is added for once, those that were missed, too."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest
import trio

from tests.conformance.programs import KINDS
from tests.conformance.stage import Stage, pairs

pytestmark = [pytest.mark.interop, pytest.mark.dealt]

CRONTAB = "* * * * * act ?fill=20m&queue=q&max=3&priority=-1 {a:1}"
MISSED = 10
"""For how many minutes nobody was awake."""
MINUTE = timedelta(minutes=1)


async def fall_asleep(stage: Stage) -> datetime:
    """Make the entry known, and its last execution some minutes ago; return when that was."""
    last: datetime = await stage.database.fetch_value(f"""
        insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
        values ('act', now() - interval '1 year', date_trunc('minute', now()) - interval '{MISSED} minutes')
        returning last_execution
    """)
    return last


async def check_each_time_once(stage: Stage, last: datetime) -> None:
    """From the last time on without a gap, and none twice."""
    await stage.wait_until(f"select count(finished_at) >= {MISSED} from runs")
    await stage.wait_settled()
    payloads = [run.payload for run in await stage.runs()]
    assert {payload["a"] for payload in payloads} == {1}
    times = sorted(datetime.fromisoformat(payload["_cron"]["ts"]) for payload in payloads)
    assert times == [last + (number + 1) * MINUTE for number in range(len(times))]


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-then-".join)
async def test_what_one_has_made_up_for_the_other_has_not_missed(stage: Stage, pair: tuple[str, str]) -> None:
    first, second = [await stage.peer(kind) for kind in pair]
    last = await fall_asleep(stage)
    await first.ask("work", crontab=CRONTAB)
    await check_each_time_once(stage, last)
    await second.ask("work", crontab=CRONTAB, concurrency=2)
    await check_each_time_once(stage, last)


@pytest.mark.parametrize("other", [kind for kind in KINDS if kind != "ours"])
async def test_when_both_start_at_once_each_time_is_added_once(stage: Stage, other: str) -> None:
    peers = [await stage.peer("ours"), await stage.peer(other)]
    last = await fall_asleep(stage)
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(partial(peer.ask, "work", crontab=CRONTAB))
    await check_each_time_once(stage, last)


@pytest.mark.parametrize("pair", pairs(KINDS), ids="-then-".join)
async def test_an_entry_that_nobody_knew_has_missed_nothing(stage: Stage, pair: tuple[str, str]) -> None:
    for kind in pair:
        await (await stage.peer(kind)).ask("work", crontab=CRONTAB)
    await stage.wait_until("select count(*) = 1 from graphile_worker._private_known_crontabs")
    old = (
        "select count(*) from runs where (payload->'_cron'->>'ts')::timestamptz < now() - interval '1 minute'"
    )
    assert await stage.database.fetch_value(old) == 0
