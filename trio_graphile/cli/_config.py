"""The sources of settings: a file, then the environment, then flags; a later one takes precedence."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trio_graphile._model.similar import did_you_mean
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._settings import (
    ENVIRONMENT_PREFIX,
    KeyPath,
    Setting,
    Settings,
    Source,
    all_settings,
    flattened,
    merge,
)

FILE_NAME = "trio_graphile.toml"
_PROJECT_FILE = "pyproject.toml"
_WORDS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
_SHARED_VARIABLES = {
    "DATABASE_URL": ("database", "url"),
    "GRAPHILE_WORKER_SCHEMA": ("database", "schema"),
    "GRAPHILE_WORKER_ADMIN_PASSWORD": ("admin", "password"),
    "GRAPHILE_WORKER_ADMIN_BEARER_TOKEN": ("admin", "bearer_token"),
    "GRAPHILE_WORKER_ADMIN_HEADER_TOKEN": ("admin", "header_token"),
}
"""Variables that other programs read, too. Variables of ours with the same meaning take precedence."""
_OTHER_VARIABLES = frozenset({"TRIO_GRAPHILE_PG_BIN"})
"""Variables with our prefix that are no settings: the place of the embedded PostgreSQL."""
_SERVICE_LINK = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes and Docker set for each service; here one whose name begins like ours."""


def load_settings(file: Path | None, flags: Mapping[KeyPath, Any]) -> Settings:
    """Return the settings of the file (by default that of the current folder), environment and flags.

    Raises `UsageError`.
    """
    return merge([_from_file(file), _from_environment(os.environ), _from_flags(flags)])


def _from_flags(flags: Mapping[KeyPath, Any]) -> Source:
    return Source(flags, lambda setting: f"--{setting.flag}")


def _from_file(file: Path | None) -> Source:
    chosen = file if file is not None else _file_here()
    if chosen is None:
        return Source({}, lambda setting: setting.key)
    table, name = _read_toml(chosen), str(chosen)
    if chosen.name == _PROJECT_FILE:
        table = table.get("tool", {}).get("trio_graphile", {})
        name = f"{chosen} [tool.trio_graphile]"
    return Source(flattened(table, name), lambda setting: f"{name}: {setting.key}")


def _file_here() -> Path | None:
    return next((path for path in (Path(FILE_NAME), Path(_PROJECT_FILE)) if path.is_file()), None)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:  # the file is no UTF-8, or no TOML
        raise UsageError(f"{file} is not TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> Source:
    known = {setting.variable: setting for setting in all_settings()}
    values: dict[KeyPath, Any] = {}
    names: dict[KeyPath, str] = {}
    for name, path in _SHARED_VARIABLES.items():
        if environment.get(name):
            values[path], names[path] = environment[name], name
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _OTHER_VARIABLES:
            continue
        if name not in known:
            if _SERVICE_LINK.fullmatch(name):
                continue
            raise UsageError(f"there is no variable {name}{_suggestion(name, known)}")
        values[known[name].path], names[known[name].path] = _value(known[name], text), name
    return Source(values, lambda setting: f"${names[setting.path]}")


def _suggestion(name: str, known: Mapping[str, Setting]) -> str:
    return did_you_mean(name, known, otherwise="see trio-graphile run --help for what can be set")


def _value(setting: Setting, text: str) -> Any:
    """Return the value of a setting that is given as text. Raises `UsageError`."""
    try:
        if setting.kind in (bool, None):
            return _WORDS[text.lower()]
        if setting.kind in (int, float):
            return setting.kind(text)
    except (KeyError, ValueError):
        wanted = {int: "a whole number", float: "a number"}.get(setting.kind, "true or false")
        raise UsageError(f"${setting.variable}: {wanted} is needed, not {text!r}") from None
    if setting.kind == tuple[str, ...]:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
