"""Crontabs as text: what is understood, and that every mistake is reported."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trio_graphile import (
    CronItem,
    CrontabInvalid,
    CrontabMistake,
    JobKeyMode,
    JobSpec,
    OptionInvalid,
    format_crontab,
    parse_crontab,
)


def parse_one(line: str) -> CronItem:
    (item,) = parse_crontab(line)
    return item


def mistakes(text: str) -> list[CrontabMistake]:
    with pytest.raises(CrontabInvalid) as raised:
        parse_crontab(text, source="jobs.cron")
    return list(raised.value.mistakes)


def reason(text: str) -> str:
    return mistakes(text)[0].reason


# --- what is understood -------------------------------------------------------------------------


def test_a_whole_crontab_is_read() -> None:
    items = parse_crontab(
        "# ┌───────────── minute\n"
        "# │ ┌─────────── hour\n"
        "#   # { not: 'read' }\n"
        "* * * * *  every\n"
        "\n"
        "0 4 * * *\tteam/clean_up:all \t?fill=4w3d2h1m&max=3&queue=slow&priority=-3 {a: 1}   \n"
        "   \t \n"
        "  */10 8-18 1,15 jan-jun mon-fri report ?id=often { text: 'it\\'s # not {a comment}', } \r\n"
    )
    assert [item.task_identifier for item in items] == ["every", "team/clean_up:all", "report"]
    every, clean_up, report = items
    assert every == CronItem(schedule="* * * * *", task_identifier="every")
    assert clean_up == CronItem(
        schedule="0 4 * * *",
        task_identifier="team/clean_up:all",
        backfill_period=4 * 604_800 + 3 * 86_400 + 2 * 3600 + 60,
        payload_json='{"a":1}',
        spec=JobSpec(max_attempts=3, queue_name="slow", priority=-3),
    )
    assert str(report.schedule) == "*/10 8-18 1,15 1-6 1-5"
    assert (report.identifier, report.payload) == ("often", {"text": "it's # not {a comment}"})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_end_in_either_way_and_anything_may_be_blank(end: str) -> None:
    text = end.join(["", "* * * * * a", "", "", "\t1 * * * * b ", "", "# end"])
    assert [item.identifier for item in parse_crontab(text)] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing", "\ufeff", " \t"])
def test_a_crontab_may_be_empty(text: str) -> None:
    assert parse_crontab(text) == ()


def test_a_mark_of_the_byte_order_is_overlooked() -> None:
    assert parse_one("\ufeff* * * * * a").identifier == "a"


SPELLINGS = {
    "* * * * * t ?id=x": CronItem(schedule="* * * * *", task_identifier="t", identifier="x"),
    "* * * * * t ?id=3rd": CronItem(schedule="* * * * *", task_identifier="t", identifier="3rd"),
    "* * * * * t ?jobKey=k": CronItem(schedule="* * * * *", task_identifier="t", spec=JobSpec(job_key="k")),
    "* * * * * t ?job_key=k&job_key_mode=preserve_run_at": CronItem(
        schedule="* * * * *",
        task_identifier="t",
        spec=JobSpec(job_key="k", job_key_mode=JobKeyMode.PRESERVE_RUN_AT),
    ),
    "* * * * * t ?jobKeyMode=replace": CronItem(schedule="* * * * *", task_identifier="t"),
    "* * * * * t ?job_key=a%26b%3D+c%C3%A9": CronItem(
        schedule="* * * * *", task_identifier="t", spec=JobSpec(job_key="a&b= cé")
    ),
    "* * * * * t ?flags=a,b%2Cc": CronItem(
        schedule="* * * * *", task_identifier="t", spec=JobSpec(flags=["a", "b,c"])
    ),
    "* * * * * t ?tz=Etc/GMT+5": CronItem(schedule="* * * * *", task_identifier="t", zone="Etc/GMT+5"),
    "* * * * * t ?priority=0&max=32767": CronItem(
        schedule="* * * * *", task_identifier="t", spec=JobSpec(priority=0, max_attempts=32767)
    ),
    "* * * * * t ?": CronItem(schedule="* * * * *", task_identifier="t"),
    "* * * * * _T.a-b:c/d {}": CronItem(schedule="* * * * *", task_identifier="_T.a-b:c/d"),
}


@pytest.mark.parametrize("line", SPELLINGS)
def test_options_are_spelled_as_either_peer_does(line: str) -> None:
    assert parse_one(line) == SPELLINGS[line]


FILLS = {"1w": 604_800, "1d": 86_400, "2h": 7200, "3m": 180, "4s": 4, "1s1m": 61, "1h1h": 7200, "0m": 0}


@pytest.mark.parametrize("fill", FILLS)
def test_periods_are_sums_in_any_order(fill: str) -> None:
    assert parse_one(f"* * * * * t ?fill={fill}").backfill_period == FILLS[fill]


def test_periods_compare_by_their_length() -> None:
    one, other = (parse_one(f"* * * * * t ?fill={fill}") for fill in ("1d", "24h"))
    assert one == other


PAYLOADS = {
    "{}": {},
    "{a: 'b', \"c\": 1, d: [1, null,], /* why */}": {"a": "b", "c": 1, "d": [1, None]},
    "{n: 0x10, big: 123456789012345678901234567890}": {"n": 16, "big": 123456789012345678901234567890},
    "{text: 'a \u2028 b'}": {"text": "a \u2028 b"},
    '{"_cron": 1}': {"_cron": 1},
}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_are_json5_objects(payload: str) -> None:
    assert parse_one(f"* * * * * t {payload}").payload == PAYLOADS[payload]


def test_a_zone_holds_for_the_entries_below_it() -> None:
    text = (
        "0 8 * * * a\n"
        "CRON_TZ=Europe/Paris\n"
        "0 8 * * * b\n"
        "0 8 * * * c ?tz=Asia/Kathmandu\n"
        " CRON_TZ = UTC \n"
        "0 8 * * * d\n"
    )
    assert [item.zone for item in parse_crontab(text)] == ["UTC", "Europe/Paris", "Asia/Kathmandu", "UTC"]


# --- what is wrong ------------------------------------------------------------------------------

REASONS = {
    "* * * * task": "an entry is `minute hour day month weekday task`, here are only 5 of the six",
    "* * * *": "here are only 4 of the six",
    "0 0 * * task {a: 1}": "weekday: 'task' is not one of 0 to 7 or sun to sat",
    "60 * * * * task": "minute: '60' is not one of 0 to 59",
    "* 24 * * * task": "hour: '24' is not one of 0 to 23",
    "* * 0 * * task": "day: '0' is not one of 1 to 31",
    "* * * 13 * task": "month: '13' is not one of 1 to 12 or jan to dec",
    "* * * * 8 task": "weekday: '8' is not one of 0 to 7 or sun to sat",
    "* * * * 99999999999999999999 task": "weekday: '99999999999999999999' is not one of",
    "*/0 * * * * task": "minute: '*/0' never comes: a step is at least 1",
    "5-5 * * * * task": "minute: '5-5' is no range: write 5",
    "5-3 * * * * task": "minute: '5-3' runs backwards: write 3-5",
    "* * * * fri-mon task": "weekday: 'fri-mon' runs backwards",
    "5/15 * * * * task": "minute: '5/15' has a step without a range: write 5-59/15",
    "*-5 * * * * task": "minute: '*-5' is neither a value (0 to 59), nor a range (a-b), nor *",
    "1,,2 * * * * task": "minute: '' is neither a value",
    "1, * * * * task": "minute: '' is neither a value",
    "? * * * * task": "minute: '?' is neither a value",
    "* * L * * task": "day: 'L' is not one of 1 to 31",
    "* * 15W * * task": "day: '15W' is neither a value",
    "* * * * 1#2 task": "weekday: '1#2' is neither a value",
    "-1 * * * * task": "minute: '-1' is neither a value",
    "\u0663 * * * * task": "minute: '\u0663' is neither a value",
    "0 0 30 2 * task": "day: there is no day 30 in the months 2: it never comes",
    "0 0 31 2,4,6 * task": "day: there is no day 31 in the months 2,4,6: it never comes",
    "* * * * * * task": "'*' is no task, which has a letter, then up to 127 letters, digits, _, :, /, .",
    "* * * * * 1task": "'1task' is no task",
    f"* * * * * {'t' * 129}": "is no task",
    "* * * * * task?fill=1d": "put a space before the question mark",
    "* * * * * task fill=1d": "after the task come ?options and a payload in braces, not 'fill=1d'",
    "* * * * * task other": "after the task come ?options and a payload in braces, not 'other'",
    "* * * * * task [1]": "after the task come ?options and a payload in braces, not '[1]'",
    "* * * * * task {a: 1} ?fill=1d": 'payload: Unexpected "?"',
    "* * * * * task {a: 1": "payload: Unexpected end of input: a JSON5 object is needed",
    "* * * * * task {a: 1, a: 2}": 'payload: Duplicate key "a" found in object',
    "* * * * * task {a: NaN}": "payload: nan is not a JSON number @ $.a",
    "* * * * * task {a: 1e999}": "payload: inf is not a JSON number @ $.a",
    "* * * * * task {a: '\\ud800'}": "payload: text with a lone surrogate is not valid Unicode @ $.a",
    "* * * * * task {a: " + "[" * 5000: "payload: it is nested too deeply",
    "* * * * * task ?unknown=1": "there is no option 'unknown'; there are id, tz, fill, max, queue, priority",
    "* * * * * task ?jobkey=1": "there is no option 'jobkey'; did you mean job",
    "* * * * * task ?max": "max: a value is needed, as in max=...",
    "* * * * * task ?max=1&max=2": "max stands twice: leave one out",
    "* * * * * task ?job_key=1&jobKey=2": "jobKey stands twice: leave one out",
    "* * * * * task ?max=three": "max: a whole number is needed, not 'three'",
    "* * * * * task ?max=0": "max: 0 is not between 1 and 32767",
    "* * * * * task ?max=40000": "max: 40000 is not between 1 and 32767",
    "* * * * * task ?priority=40000": "priority: 40000 is not between -32768 and 32767",
    "* * * * * task ?fill=": "fill: '' is no duration such as 1w2d3h4m5s",
    "* * * * * task ?fill=1_000s": "fill: '1_000s' is no duration",
    "* * * * * task ?fill=1d2x": "fill: '1d2x' is no duration",
    "* * * * * task ?fill=600w": "fill: '600w' is over ten years",
    "* * * * * task ?job_key=": "job_key: the empty string cannot be a key",
    "* * * * * task ?job_key=%zz": "job_key: % is followed by two hexadecimal digits; the sign itself is %25",
    "* * * * * task ?job_key=%ff": "job_key: what is written with % is not UTF-8",
    "* * * * * task ?job_key=%00": "job_key: PostgreSQL cannot hold a NUL character",
    "* * * * * task ?job_key_mode=unsafe_dedupe": "job_key_mode: right are replace and preserve_run_at",
    "* * * * * task ?id=": "id: a text is needed",
    "* * * * * task ?flags=a,": "flags: a text is needed",
    "* * * * * task ?tz=Europe/Pari": "tz: there is no time zone 'Europe/Pari'; did you mean Europe/Paris?",
    "* * * * * task ?tz=localtime": "tz: there is no time zone 'localtime'",
    "* * * * * task ?tz=Europe": "tz: there is no time zone 'Europe'",
    "* * * * * task ?tz=../etc/passwd": "tz: there is no time zone '../etc/passwd'",
    "@daily task": "@daily is not understood: write 0 0 * * *",
    "@reboot task": "@reboot is not understood: write the five fields",
    "CRON_TZ=Europe/Pari": "there is no time zone 'Europe/Pari'; did you mean Europe/Paris?",
    "MAILTO=root": "MAILTO cannot be set here: only CRON_TZ=... can",
    "total garbage": "here are only 2 of the six",
}


@pytest.mark.parametrize("line", REASONS, ids=lambda line: line[:40])
def test_what_is_wrong_is_named_with_what_would_be_right(line: str) -> None:
    assert REASONS[line] in reason(line)


@pytest.mark.parametrize(
    "line", ["* * * * * * task", "* * * * * task ?max=0", "* * * * * 1task ?x {", "* x * * * t"]
)
def test_one_mistake_is_reported_once(line: str) -> None:
    assert len(mistakes(line)) == 1


def test_every_wrong_line_is_reported_with_every_mistake_and_its_place() -> None:
    text = "* * * * * good\n60 * * 13 *  9to5\n# fine\n\t* * * * * bad ?max=x&fill=1d&id {\n* * * * * good\n"
    found = [(mistake.line, mistake.column, mistake.reason.split(":")[0]) for mistake in mistakes(text)]
    assert found == [
        (2, 1, "minute"),
        (2, 8, "month"),
        (2, 14, "'9to5' is no task, which has a letter, then up to 127 letters, digits, _, "),
        (4, 17, "max"),
        (4, 31, "id"),
        (4, 35, "payload"),
        (5, 11, "there is an entry 'good' already in line 1"),
    ]


def test_a_mistake_is_shown_below_its_place() -> None:
    with pytest.raises(CrontabInvalid) as raised:
        parse_crontab("# ours\n\t* 24 * * * task", source="jobs.cron")
    assert str(raised.value) == (
        "jobs.cron:2:4: hour: '24' is not one of 0 to 23\n    \t* 24 * * * task\n    \t  ^"
    )


def test_an_identifier_that_stands_twice_is_refused_with_a_way_out() -> None:
    assert reason("0 8 * * * t\n0 9 * * * t") == (
        "there is an entry 't' already in line 1: give this one a name of its own, by ?id=... in a crontab, "
        "by identifier=... in code"
    )
    assert len(parse_crontab("0 8 * * * t\n0 9 * * * t ?id=later")) == 2


# --- written ------------------------------------------------------------------------------------


def test_entries_are_written_as_they_are_read() -> None:
    text = (
        "* * * * * every\n"
        "*/15 8-18,20 1-7 2,4 1-5 team/report:x ?id=r&tz=Etc/GMT%2B5&fill=1w2d&max=3&queue=a%20b&priority=0"
        '&jobKey=k%26&jobKeyMode=preserve_run_at&flags=a,b%2Cc {"to":"ada"}\n'
    )
    items = parse_crontab(text)
    assert format_crontab(items) == text
    assert parse_crontab(format_crontab(items)) == items


def test_a_task_that_no_line_can_name_is_not_written() -> None:
    with pytest.raises(OptionInvalid, match="'two words' is no task"):
        format_crontab([CronItem(schedule="* * * * *", task_identifier="two words")])


@pytest.mark.parametrize("text", [None, b"* * * * * t", Path("crontab")])
def test_a_crontab_is_a_text(text: Any) -> None:
    with pytest.raises(OptionInvalid, match=r"^text: a str is needed, not "):
        parse_crontab(text)


def test_what_is_no_entry_is_not_written() -> None:
    text: Any = "* * * * * t"
    with pytest.raises(OptionInvalid, match=r"^items: a CronItem is needed, not a value of the type str$"):
        format_crontab(text)


# --- entries by hand ----------------------------------------------------------------------------

WRONG_ITEMS: dict[str, tuple[dict[str, object], str]] = {
    "payload": ({"payload_json": "[1]"}, "payload_json: the payload of a recurring job is a JSON object"),
    "no json": ({"payload_json": "{"}, "payload_json: the payload"),
    "deep": ({"payload_json": '{"a":' + "[" * 100_000}, "payload_json: the payload"),
    "mode": ({"spec": JobSpec(job_key_mode="unsafe_dedupe")}, "spec.job_key_mode: unsafe_dedupe would add"),
    "zone": ({"zone": "Mars"}, "zone: there is no time zone 'Mars'"),
    "period": ({"backfill_period": 1.5}, "backfill_period: whole seconds are needed"),
    "long": (
        {"backfill_period": 1e9},
        "backfill_period: 1000000000 seconds are over",
    ),
    "identifier": ({"identifier": ""}, "identifier: a text without NUL is needed"),
    "no text": ({"identifier": 5}, "identifier: a text without NUL is needed, not 5"),
    "no schedule": ({"schedule": ["*"] * 5}, 'schedule: a str is needed, such as "0 8 * * mon-fri", not'),
    "no zone": ({"zone": UTC}, 'zone: a str is needed, such as "Europe/Paris", not a value of the type'),
    "a dict": ({"payload_json": {}}, "payload_json: a str is needed, not a value of the type dict"),
    "no spec": ({"spec": {}}, "spec: a JobSpec is needed, such as JobSpec(priority=1), not a value of"),
    "no period": ({"backfill_period": None}, "backfill_period: a number of seconds is needed, not None"),
    "task": ({"task_identifier": ""}, "identifier: 0 characters are not between 1 and 128"),
}


@pytest.mark.parametrize("name", WRONG_ITEMS)
def test_an_entry_that_can_never_work_is_refused_when_it_is_made(name: str) -> None:
    arguments, expected = WRONG_ITEMS[name]
    with pytest.raises(OptionInvalid) as raised:
        CronItem(**{"schedule": "* * * * *", "task_identifier": "t", **arguments})  # type: ignore[arg-type]
    assert str(raised.value).startswith(expected)


def test_the_schedule_says_when() -> None:
    with pytest.raises(OptionInvalid, match=r"spec\.run_at: the schedule says when"):
        CronItem(
            schedule="* * * * *", task_identifier="t", spec=JobSpec(run_at=datetime(2024, 1, 1, tzinfo=UTC))
        )


def test_a_payload_is_not_shown() -> None:
    assert "sesame" not in repr(parse_one("* * * * * t {password: 'sesame'}"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("* * * *", "five fields are needed"), ("9 \t9 9 9 99", "schedule:1:10: weekday: '99'")],
)
def test_a_schedule_that_is_wrong_says_where(text: str, expected: str) -> None:
    with pytest.raises(CrontabInvalid, match=expected):
        CronItem(schedule=text, task_identifier="t")


def test_who_has_no_crontab_does_not_pay_for_reading_one() -> None:
    program = "import sys, trio_graphile; print(sorted({'croniter', 'json5'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout == "[]\n"
