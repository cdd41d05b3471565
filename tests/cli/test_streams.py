"""What an encoding lacks is escaped as in JSON."""

from __future__ import annotations

import json

import pytest

from trio_graphile.cli._streams import escaped


@pytest.mark.parametrize("character", ["ä", "\u20ac", "\U0001f600", "\U0010ffff", "\x9b", "\ud800"])
def test_an_escaped_character_is_the_same_in_json(character: str) -> None:
    text = escaped(character)
    assert text.isascii()
    assert json.loads(f'"{text}"') == character
