"""SQL as values: a statement is a constant with one placeholder, the schema."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import attrs

from trio_graphile._exceptions import OptionInvalid

_MAX_IDENTIFIER_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL would silently cut a longer name


@attrs.frozen
class Statement:
    """One SQL statement; `{schema}` stands for the quoted schema name, `$n` for parameters."""

    text: str
    _texts: dict[str, str] = attrs.field(init=False, factory=dict, eq=False, repr=False)
    """The SQL for each schema, once it was made."""

    def for_schema(self, quoted_schema: str) -> str:
        """Return the SQL for one schema: always the same string object, which caches its hash."""
        if (text := self._texts.get(quoted_schema)) is None:
            text = self._texts[quoted_schema] = self.text.replace("{schema}", quoted_schema)
        return text


_CHANGES_SESSION = re.compile(
    r"""
    (?: ^ | ; ) \s* (?:
      abort | begin | close | commit | deallocate | declare | discard | end | listen | load | prepare
      | release | reset | rollback | savepoint | set | start | unlisten
    ) \b
    | \b temp (?: orary )? \b     # tables and the like, which live as long as the session
    | set_config | advisory_lock
    | -- | /\*                   # comments, behind which it may say anything
    """,
    re.IGNORECASE | re.VERBOSE,
)


@functools.lru_cache(maxsize=1024)
def may_change_session(sql: str) -> bool:
    """Whether SQL, one statement or several, may change its session.

    If that is unclear, this returns True. It does not know what the functions do that the SQL calls.
    """
    return _CHANGES_SESSION.search(sql) is not None


def quote_identifier(name: str) -> str:
    """Quote a name for SQL. Raises `OptionInvalid` for a text that cannot be a name in PostgreSQL."""
    if not name:
        raise OptionInvalid("schema", "the name is empty")
    if "\0" in name:
        raise OptionInvalid("schema", "a name cannot contain NUL")
    if len(name.encode()) > _MAX_IDENTIFIER_BYTES:
        raise OptionInvalid(
            "schema", f"{name!r} is longer than the {_MAX_IDENTIFIER_BYTES} bytes PostgreSQL keeps"
        )
    return '"' + name.replace('"', '""') + '"'


def array_literal(texts: Sequence[str]) -> str:
    """Return the text of a text[], since PostgreSQL has no arrays of arrays of different lengths."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"
