"""Two kinds of workers share a crontab: each of its times is added for once, those that were missed, too."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import attrs
import pytest
import trio

from tests.conformance.programs import KINDS, Refused
from tests.conformance.stage import Stage, pairs

pytestmark = pytest.mark.interop

CRONTAB = "* * * * * act ?fill=20m&queue=q&max=3&priority=-1 {a:1}"
OTHER = "* * * * * act ?id=other&fill=20m {a:1}"
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


@attrs.frozen
class Line:
    name: str
    text: str
    accepted_by: frozenset[str]


EVERYBODY = frozenset(KINDS)
NODE_AND_OURS = EVERYBODY - {"rust"}
OURS = frozenset({"ours"})
RUST = frozenset({"rust"})
LINES = (
    Line("plain", "0 4 * * 1 act ?id=known", EVERYBODY),
    Line("lists, ranges and steps", "*/5 1-3,7 * * 0 act ?id=known", EVERYBODY),
    Line("a payload in JSON5", "0 4 * * * act ?id=known {a: 'b', c: [1,],}", EVERYBODY),
    Line("after a comment", "# a comment\n0 4 * * * act ?id=known", EVERYBODY),
    Line("after a blank line", "0 3 * * * act ?id=first\n\n0 4 * * * act ?id=known", EVERYBODY),
    Line("several spaces", "0  4 * *\t* act ?id=known", NODE_AND_OURS),
    Line("Sunday as 7", "0 4 * * 7 act ?id=known", NODE_AND_OURS),
    Line("names", "0 4 * jan mon act ?id=known", OURS),
    Line("a range with a step", "0-30/5 4 * * * act ?id=known", OURS),
    Line("a step of nothing", "*/0 4 * * * act ?id=known", RUST),
    Line("a range backwards", "0 5-3 * * * act ?id=known", frozenset()),
    Line("too few fields", "0 4 * * act ?id=known", frozenset()),
    Line("an option that nobody has", "0 4 * * * act ?id=known&fell=3m", RUST),
)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
@pytest.mark.parametrize("kind", KINDS)
async def test_lines_are_accepted_or_refused(stage: Stage, kind: str, line: Line) -> None:
    """See "Which lines are accepted" in docs/compatibility.md. The others are refused at the start."""
    peer = await stage.peer(kind)
    if kind not in line.accepted_by:
        with pytest.raises(Refused):
            await peer.ask("work", crontab=line.text)
    else:
        await peer.ask("work", crontab=line.text)
        await stage.wait_until("""
            select exists (
              select
              from graphile_worker._private_known_crontabs
              where identifier = 'known'
            )
        """)


@pytest.mark.parametrize("kind", KINDS)
async def test_of_two_restricted_days_either_is_enough_but_to_rust(stage: Stage, kind: str) -> None:
    """See "Which lines are accepted" in docs/compatibility.md."""
    last = await fall_asleep(stage)
    days = sorted({last.day, (last + 2 * MISSED * MINUTE).day})
    tomorrow = (last.isoweekday() + 2) % 7  # or the day after, if it is about midnight
    crontab = f"* * {','.join(map(str, days))} * {tomorrow} act ?fill=20m {{a:2}}\n{OTHER}"
    await stage.database.execute("""
        insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
        select 'other', known_since, last_execution
        from graphile_worker._private_known_crontabs
    """)
    await (await stage.peer(kind)).ask("work", crontab=crontab)
    both = kind != "rust"
    await stage.wait_until(f"select count(finished_at) >= {MISSED * (1 + both)} from runs")
    await stage.wait_settled()
    assert {run.payload["a"] for run in await stage.runs()} == ({1, 2} if both else {1})


@pytest.mark.parametrize("kind", KINDS)
async def test_weekdays_are_counted_from_sunday_but_by_rust(stage: Stage, kind: str) -> None:
    """See "Which lines are accepted" in docs/compatibility.md."""
    await stage.database.execute("""
        insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
        select entry.id, now() - interval '1 year', date_trunc('minute', now()) - interval '15 days'
        from unnest(array['sundays', 'second', 'days']) as entry(id)
    """)
    crontab = """
0 12 * * 0 act ?id=sundays&fill=2w {a:1}
0 12 * * */2 act ?id=second&fill=2w {a:2}
0 12 * * * act ?id=days&fill=2w {a:3}
""".strip()
    await (await stage.peer(kind)).ask("work", crontab=crontab)
    await stage.wait_until("select count(finished_at) >= 13 from runs where payload->>'a' = '3'")
    await stage.wait_settled()
    weekdays: dict[int, set[int]] = {1: set(), 2: set(), 3: set()}
    for run in await stage.runs():
        weekdays[run.payload["a"]].add(datetime.fromisoformat(run.payload["_cron"]["ts"]).isoweekday())
    counted_from_monday = kind == "rust"
    assert weekdays == {
        1: set() if counted_from_monday else {7},
        2: {1, 3, 5, 7} if counted_from_monday else {7, 2, 4, 6},
        3: {1, 2, 3, 4, 5, 6, 7},
    }
