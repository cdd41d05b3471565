"""The versions of PostgreSQL whose programs are found here.

`POSTGRES_BINARIES` names the folders of their programs, with colons between them; those of Debian's packages
are found.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from trio_graphile._database.schema_plan import OLDEST_SERVER_VERSION
from trio_graphile.embedded import find_binaries

OLDEST = OLDEST_SERVER_VERSION // 10_000


def find_servers() -> dict[int, Path]:
    """Return the folders with PostgreSQL's programs, by its major version."""
    named = [Path(folder) for folder in os.environ.get("POSTGRES_BINARIES", "").split(":") if folder]
    usual = [find_binaries(), *Path("/usr/lib/postgresql").glob("*/bin")]
    return {major_of(folder): folder for folder in [*usual, *named] if (folder / "postgres").exists()}


def major_of(folder: Path) -> int:
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    words = said.stdout.removeprefix("postgres (PostgreSQL) ")
    return int("".join(character if character.isdigit() else " " for character in words).split()[0])


SERVERS = find_servers()
