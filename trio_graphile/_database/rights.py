"""Says which rights a role lacks, where the server names only what it protects."""

from __future__ import annotations

import functools
import re
from importlib import resources

from trio_graphile._exceptions import StatementFailed

INSUFFICIENT_PRIVILEGE = "42501"
ADVICE = "`trio-graphile roles` prints the SQL that grants what programs need"

_REFUSAL = re.compile(r"""(?:permission denied for|must be owner of) ([a-z ]+?) "?([^"]+)"?$""")
_USES = re.compile(
    r"""\b(from|join|using|into|update|delete\s+from|lock\s+table)\s+(?:"(?:[^"]|"")+"|\{schema\}|\w+)\.(\w+)"""
)
_LOCKS = re.compile(r"\bfor\s+(?:no\s+key\s+update|key\s+share|update|share)\b")
_RIGHTS = {
    "from": ("select",),
    "join": ("select",),
    "using": ("select",),
    "into": ("insert",),
    "update": ("select", "update"),  # it has conditions
    "delete from": ("select", "delete"),
    "lock table": ("update",),
}
_FUNCTION = re.compile(
    r"create or replace function \{schema\}\.(\w+)\(.*?\$trio_graphile\$(.*?)\$trio_graphile\$", re.DOTALL
)
_CALL = re.compile(r"\.(\w+)\(")


def name_missing_right(error: StatementFailed, sql: str) -> StatementFailed:
    """Return an error of a statement of ours, as it is written, that also says what its role needs."""
    text = str(error)
    return StatementFailed(
        f"{text}: {_needed(text, sql)}; {ADVICE}",
        sqlstate=error.sqlstate,
        constraint=error.constraint,
        detail=error.detail,
        hint=error.hint,
    )


def _needed(refusal: str, sql: str) -> str:
    match = _REFUSAL.search(refusal)
    if match is None:  # by row level security, or in another language
        if "row-level security" in refusal:
            return "the role needs a policy that shows it all rows, or BYPASSRLS"
        return "the role lacks a right"
    kind, name = match.groups()
    if refusal.startswith("must be owner"):
        return "only the owner may do this"
    match kind:
        case "table" | "view" | "relation":
            return f"the role needs {_in_words(rights_on(name, sql))} on {name}"
        case "schema":
            return (
                f"the role needs {'create' if sql.lstrip().startswith('create') else 'usage'} on the schema"
            )
        case "database":
            return "the role needs create on the database, or a schema that exists and is its own"
        case "function":
            return f"the role needs execute on {name}"
        case "sequence":
            return f"the role needs usage on {name}"
        case _:
            return "the role lacks a right"


def rights_on(table: str, sql: str) -> list[str]:
    """Return the rights on a table that a statement needs, and the functions that it calls."""
    called = set(_CALL.findall(sql)) & bodies().keys()
    if "add_jobs" in called:
        called.add("add_job")
    found: set[str] = set()
    for text in (sql, *(bodies()[name] for name in called)):
        on_table = [" ".join(use.split()) for use, name in _USES.findall(text) if name == table]
        uses = {right for use in on_table for right in _RIGHTS[use]}
        if "select" in uses and _LOCKS.search(text):
            uses.add("update")
        found |= uses
    return [right for right in ("select", "insert", "update", "delete") if right in found]


@functools.cache
def bodies() -> dict[str, str]:
    """Return the SQL inside of the functions of our schema, by name."""
    files = (resources.files("trio_graphile._database") / "migrations").iterdir()
    texts = [file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")]
    return dict(function for text in texts for function in _FUNCTION.findall(text))


def _in_words(rights: list[str]) -> str:
    *most, last = rights or ["more rights"]
    return f"{', '.join(most)} and {last}" if most else last
