"""Whatever a crontab holds, it is read, or every mistake in it is reported; what is read can be written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile import CrontabInvalid, format_crontab, parse_crontab
from trio_graphile._cron.crontab import read_crontab

FIELD_PARTS = st.sampled_from(
    [
        "*",
        "0",
        "1",
        "59",
        "7",
        "*/2",
        "1-5",
        "1-7/3",
        "mon",
        "jan-mar",
        "fri-sun",
        "*/0",
        "9-1",
        "L",
        "",
        "60",
    ]
)
FIELDS = st.lists(FIELD_PARTS, min_size=1, max_size=3).map(",".join)
NAMES = st.text("abcXYZ_:/.-0 %&=+?#{}é\t", max_size=6)
KEYS = st.sampled_from(
    ["id", "tz", "fill", "max", "queue", "priority", "job_key", "jobKey", "job_key_mode", "flags", "other"]
)
VALUES = st.sampled_from(
    [
        "1",
        "0",
        "-5",
        "a",
        "a,b",
        "%20",
        "%zz",
        "%ff",
        "+",
        "1d2h",
        "2x",
        "",
        "replace",
        "Europe/Paris",
        "Etc/GMT+1",
    ]
)
OPTIONS = st.lists(st.tuples(KEYS, VALUES).map("=".join), max_size=4).map(lambda pairs: "?" + "&".join(pairs))
SCALARS = st.sampled_from(
    [
        "1",
        "-0",
        "-0.0",
        "0x1F",
        ".5",
        "1e3",
        "1e999",
        "NaN",
        "null",
        "'it\\'s'",
        '"\\ud800"',
        "{b: []}",
        "[1,]",
    ]
)
PAYLOADS = st.lists(
    st.tuples(st.sampled_from(["a", "'b c'", "_cron", "é"]), SCALARS).map(": ".join), max_size=3
).map(lambda pairs: "{" + ", ".join(pairs) + "}")
TASKS = st.sampled_from(["a", "b", "team/c:d", "_e", "f.g"]) | NAMES
SPACE = st.sampled_from([" ", "  ", "\t", " \t"])


@st.composite
def lines(draw: st.DrawFn) -> str:
    words = [draw(FIELDS) for _ in range(5)] + [draw(TASKS)]
    words += [draw(part) for part in (OPTIONS, PAYLOADS) if draw(st.booleans())]
    return draw(SPACE).join(words)


OTHER_LINES = st.sampled_from(
    ["", "# comment", "CRON_TZ=Asia/Kathmandu", "CRON_TZ=Nowhere", "@daily a", "MAILTO=x"]
)
CRONTABS = st.lists(lines() | OTHER_LINES | st.text(max_size=20), max_size=5).map("\n".join)


@given(CRONTABS | st.text())
def test_no_text_does_more_than_be_wrong(text: str) -> None:
    reading = read_crontab(text)  # what `parse_crontab` does, short of raising
    lines = text.removeprefix("\ufeff").split("\n")
    for mistake in reading.mistakes:
        assert mistake.line is not None
        assert mistake.column is not None
        assert mistake.text == lines[mistake.line - 1].removesuffix("\r")
        assert 1 <= mistake.column <= len(mistake.text) + 1
        assert mistake.reason in str(mistake)
    if reading.mistakes:
        with pytest.raises(CrontabInvalid):
            parse_crontab(text)
    else:
        items = parse_crontab(text)
        again = format_crontab(items)
        assert parse_crontab(again) == items
        assert format_crontab(parse_crontab(again)) == again


FINE_FIELDS = st.sampled_from(["*", "1", "1-5", "*/2", "2,4-6", "1-6/2"])


@st.composite
def fine_lines(draw: st.DrawFn) -> str:
    number = draw(st.integers(0, 10**9))
    words = [draw(FINE_FIELDS) for _ in range(5)] + ["task", f"?id=n{number}"]
    value = draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5))
    quoted = "".join(f"%{byte:02x}" for byte in value.encode())
    words[-1] += draw(st.sampled_from(["", f"&queue={quoted}", f"&job_key={quoted}", f"&flags={quoted},x"]))
    words += [
        draw(st.sampled_from(["", "{a: 'b'}", "{n: -1.5e-7, m: 'é\u2028\\n'}", "{a: {b: [null, true]}}"]))
    ]
    return " ".join(words)


def entry_of(line: str) -> str:
    return re.split("[?& ]", line)[7]


@given(st.lists(fine_lines(), min_size=1, max_size=4, unique_by=entry_of))
def test_what_is_right_is_read_and_written_without_loss(lines: list[str]) -> None:
    items = parse_crontab("\n".join(lines))
    assert len(items) == len(lines)
    assert parse_crontab(format_crontab(items)) == items
