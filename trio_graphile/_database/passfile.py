"""Password files, read as libpq reads them: the driver keeps backslashes, and stumbles over short lines."""

from __future__ import annotations

import functools
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

logger = logging.getLogger("trio_graphile.database")

NO_FILE = f"{os.devnull}/none"
"""For the driver, when we have looked ourselves."""
_FIELDS = 5  # host, port, database, role, password


@attrs.frozen(kw_only=True)
class PasswordFile:
    """Where the password of a role is looked up, each time a session is opened."""

    path: Path
    database: str
    user: str

    def find(self, host: str, port: int) -> str | None:
        """Return the password of the first line that fits; None if there is none.

        A host that is empty, or the folder of a UNIX socket, is also found as localhost.
        """
        names = {host, "localhost"} if host.startswith("/") or not host else {host}
        wanted = (names, {str(port)}, {self.database}, {self.user})
        for *place, password in self._lines():
            if all(field == "*" or field in fitting for field, fitting in zip(place, wanted, strict=True)):
                return password
        return None

    def _lines(self) -> Iterator[list[str]]:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                return
            if os.name == "posix" and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                _warn_of_readers(self.path)
                return
            text = self.path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return
        for line in text.split("\n"):
            fields = _fields_of(line.removesuffix("\r"))
            if not line.startswith("#") and len(fields) == _FIELDS:
                yield fields


@functools.cache
def _warn_of_readers(path: Path) -> None:
    logger.warning("the password file %s is not used, since others may read it: chmod 600", path)


def _fields_of(line: str) -> list[str]:
    """Split a line at its first four colons. Behind a backslash, a colon or another one is a character."""
    fields, characters = [""], iter(line)
    for character in characters:
        if character == "\\":
            fields[-1] += next(characters, "\\")
        elif character == ":" and len(fields) < _FIELDS:
            fields.append("")
        else:
            fields[-1] += character
    return fields
