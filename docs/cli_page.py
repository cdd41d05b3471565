"""Writes into docs/cli.md what the program says of itself, so that the page cannot be wrong.

python docs/cli_page.py            # brings the page up to date
python docs/cli_page.py other.md   # writes it somewhere else, to compare
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from cyclopts import App
from rich.console import Console

from trio_graphile.cli._program import program
from trio_graphile.cli._settings import Setting, all_settings

PAGE = Path(__file__).with_name("cli.md")
WIDTH = 100
SAID_ELSEWHERE = ("Settings", "Everywhere", "Database", "Worker", "Admin")
"""Panels of flags that many commands have: the page has tables of them."""


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names of all commands, those of a group after each other."""
    for name in app:
        if name.startswith("-"):
            continue
        below = list(commands(app[name], (*path, name)))
        yield from below or [(*path, name)]


def help_of(command: tuple[str, ...]) -> str:
    """Return the help of a command as it stands on a terminal, without the panels that all have."""
    output = io.StringIO()
    program.help_print(list(command), console=Console(file=output, width=WIDTH, color_system=None))
    lines: list[str] = []
    is_skipped = False
    for line in output.getvalue().splitlines():
        if line.startswith("╭─"):
            is_skipped = line.split()[1] in SAID_ELSEWHERE
        if not is_skipped:
            lines.append(line.rstrip())
    return "\n".join(lines).strip()


def all_commands() -> str:
    sections = [
        f"### {' '.join(command)}\n\n```text\n{help_of(command)}\n```\n" for command in commands(program)
    ]
    return "\n".join(sections)


def settings_of(*parts: str) -> Callable[[], str]:
    def table() -> str:
        rows = ["| in the file | flag | default | |", "| --- | --- | --- | --- |"]
        chosen = (
            setting
            for setting in all_settings()
            if setting.path[: len(parts)] == parts and (parts or len(setting.path) == 1)
        )
        return "\n".join([*rows, *map(row_of, chosen)]) + "\n"

    return table


def row_of(setting: Setting) -> str:
    flag = f"--no-{setting.flag}" if setting.kind is None else f"--{setting.flag}"
    default = setting.default
    shown = "" if default in (None, (), attrs.NOTHING) else f"`{written(default)}`"
    key = f"{setting.key} = false" if setting.kind is None else setting.key
    return f"| `{key}` | `{flag}` | {shown} | {setting.text.replace('|', chr(92) + '|')} |"


def written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return str(value)


PARTS = {
    "commands": all_commands,
    "settings": settings_of(),
    "settings of the database": settings_of("database"),
    "settings of the worker": settings_of("worker"),
    "settings of the admin": settings_of("admin"),
}


def with_part(text: str, name: str, body: str) -> str:
    """Put a part of the page where it belongs."""
    begin, end = f"<!-- {name}: by cli_page.py -->", "<!-- end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{PAGE} has no place for the {name}")
    return f"{before}{begin}\n\n{body}\n{end}{after}"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, make in PARTS.items():
        text = with_part(text, name, make())
    Path(sys.argv[1] if len(sys.argv) > 1 else PAGE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
