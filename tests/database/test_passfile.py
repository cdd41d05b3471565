"""Password files, read as psql reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_graphile._database.passfile import PasswordFile

TEXT = r"""
# db:5432:shop:ada:a comment
too:short
db:5432:shop:ada:for this very place
db:*:shop:ada:for other ports
*:*:*:o\:o\\k:a\:b\\c d:e\
localhost:*:*:ada:for sockets
/run/pg:*:*:bob:for this socket
*:*:*:bob: for any host,
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "passwords"
    path.write_text(TEXT)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("place", "database", "user", "password"),
    [
        (("db", 5432), "shop", "ada", "for this very place"),
        (("db", 6432), "shop", "ada", "for other ports"),
        (("db", 5432), "other", "ada", None),
        (("", 5432), "shop", "ada", "for sockets"),
        (("/tmp", 5432), "shop", "ada", "for sockets"),
        (("/run/pg", 5432), "shop", "bob", "for this socket"),
        (("else", 1), "x", "bob", " for any host,"),
        (("db", 5432), "shop", "o:o\\k", "a:b\\c d:e\\"),
    ],
)
def test_the_first_line_that_fits_counts(
    path: Path, place: tuple[str, int], database: str, user: str, password: str | None
) -> None:
    assert PasswordFile(path=path, database=database, user=user).find(*place) == password


def test_a_file_that_others_may_read_is_not_used_and_that_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.chmod(0o640)
    for _ in range(2):
        assert PasswordFile(path=path, database="shop", user="ada").find("db", 5432) is None
    assert caplog.text.count(f"the password file {path} is not used") == 1


@pytest.mark.parametrize("path", ["/dev/null", "/nonexistent/passwords"])
def test_no_file_has_no_password(path: str) -> None:
    assert PasswordFile(path=Path(path), database="shop", user="ada").find("db", 5432) is None
