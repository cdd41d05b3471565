"""Sessions of browsers."""

from __future__ import annotations

from collections.abc import Callable

from trio_graphile.admin._safety.sessions import BrowserSessions


def sessions(*, length: float = 100.0, idle: float = 10.0) -> BrowserSessions:
    return BrowserSessions(length=length, idle=idle)


def test_a_session_is_known_by_its_identifier_alone() -> None:
    known = sessions()
    identifier = known.begin("ada", 0.0)
    assert len(identifier) >= 43
    assert known.user_of(identifier, 1.0) == "ada"
    assert known.user_of(identifier[:-1], 1.0) is None
    assert known.user_of("\udcff", 1.0) is None
    assert identifier not in repr(known)


def test_a_login_voids_the_session_that_the_browser_had() -> None:
    known = sessions()
    before = known.begin("mallory", 0.0)
    after = known.begin("ada", 0.0, instead_of=before)
    assert before != after
    assert known.user_of(before, 0.0) is None
    assert known.user_of(after, 0.0) == "ada"


def test_an_identifier_that_was_planted_never_becomes_a_session() -> None:
    known = sessions()
    assert known.begin("ada", 0.0, instead_of="planted") != "planted"
    assert known.user_of("planted", 0.0) is None


def test_a_session_that_is_not_used_ends() -> None:
    known = sessions()
    identifier = known.begin("ada", 0.0)
    assert known.user_of(identifier, 9.0) == "ada"
    assert known.user_of(identifier, 18.0) == "ada"
    assert known.user_of(identifier, 28.0) is None
    assert known.user_of(identifier, 18.0) is None


def test_a_session_ends_however_much_it_is_used() -> None:
    known = sessions(length=20.0)
    identifier = known.begin("ada", 0.0)
    assert known.user_of(identifier, 9.0) == known.user_of(identifier, 18.0) == "ada"
    assert known.user_of(identifier, 20.0) is None


def test_who_has_logged_out_is_not_known() -> None:
    known = sessions()
    identifier = known.begin("ada", 0.0)
    known.end(identifier)
    known.end("another")
    assert known.user_of(identifier, 0.0) is None


def test_beyond_a_thousand_the_one_least_used_ends() -> None:
    known = sessions()
    first, second = known.begin("first", 0.0), known.begin("second", 0.0)
    assert known.user_of(first, 0.0) == "first"
    for _ in range(999):
        known.begin("other", 0.0)
    assert known.user_of(first, 0.0) == "first"
    assert known.user_of(second, 0.0) is None


def test_what_goes_on_hears_of_the_end_of_its_session() -> None:
    known = sessions(length=100.0, idle=10.0)
    ways: dict[str, Callable[[str], object]] = {
        "logout": known.end,
        "another login": lambda identifier: known.begin("ada", 1.0, instead_of=identifier),
        "too long unused": lambda identifier: known.user_of(identifier, 50.0),
    }
    for way, end in ways.items():
        identifier = known.begin("ada", 0.0)
        ended, ends_at = known.end_of(identifier)
        assert ends_at == 100.0
        assert not ended.is_set()
        end(identifier)
        assert ended.is_set(), way


def test_the_session_that_makes_room_for_another_hears_of_it() -> None:
    known = sessions()
    ended, _ = known.end_of(known.begin("ada", 0.0))
    for _ in range(1000):
        assert not ended.is_set()
        known.begin("others", 1.0)
    assert ended.is_set()
