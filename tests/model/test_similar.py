from __future__ import annotations

from trio_graphile._model.similar import did_you_mean


def test_the_most_similar_name_is_suggested() -> None:
    assert did_you_mean("lenght", ["width", "length"]) == "; did you mean length?"


def test_where_none_is_similar_all_are_named() -> None:
    assert did_you_mean("x", ["width", "length"]) == "; there are width, length"
    assert did_you_mean("x", []) == ""


def test_what_is_said_where_none_is_similar_can_be_chosen() -> None:
    assert did_you_mean("x", ["width"], otherwise="see --help") == "; see --help"
    assert did_you_mean("x", ["width"], otherwise="") == ""
