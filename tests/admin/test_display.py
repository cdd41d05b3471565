"""Text from rows as it is shown."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_graphile.admin._safety.display import visible, visible_lines

ANY_TEXT = st.text(st.characters())
"""Halves of characters among it."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("gr\u00f6\u00dfer \u65e5\u672c \u0639\u0631\u0628 \U0001f600", None),
        ("exe.\u202etxt", "exe.\\u202etxt"),
        ("pay\u200bpal", "pay\\u200bpal"),
        ("\ufeffbegin", "\\ufeffbegin"),
        ("a\x00b\x1b[31m\x7f\x9f", "a\\u0000b\\u001b[31m\\u007f\\u009f"),
        ("\ud83d", "\\ud83d"),
        ("\ufdd0\uffff", "\\ufdd0\\uffff"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("filler\u3164\u2800", "filler\\u3164\\u2800"),
        ("line\u2028end", "line\\u2028end"),
    ],
)
def test_what_is_not_seen_is_shown_as_an_escape(text: str, shown: str | None) -> None:
    assert visible(text) == (text if shown is None else shown)
    assert visible_lines(text) == visible(text)


def test_lines_and_tabs_are_kept_where_they_are_wanted() -> None:
    assert visible_lines("a\n\tb\r\n") == "a\n\tb\\u000d\n"
    assert visible("a\n\tb") == "a\\u000a\\u0009b"


def test_no_character_of_an_invisible_category_is_left() -> None:
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {f"{ord(one):x}" for one in visible(every) if unicodedata.category(one) in hidden}
    assert left == set()
    assert not any(ord(one) & 0xFFFE == 0xFFFE for one in visible(every))


@given(ANY_TEXT)
def test_what_was_made_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    assert visible(text).encode() if text else True
    assert visible_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=["L", "N", "P", "S"], max_codepoint=0x2FF)))
def test_letters_and_signs_are_left_alone(text: str) -> None:
    assert visible(text) == text
