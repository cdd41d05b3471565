"""Flags that several commands share: for all settings, and for the form of the output."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeAlias

import attrs
from cyclopts import Group, Parameter

from trio_graphile.cli._config import load_settings
from trio_graphile.cli._settings import KeyPath, Setting, Settings, all_settings

_RUN = Group("Settings", sort_key=0)
_COMMON = Group("Everywhere", sort_key=1)
_DATABASE = Group("Database", sort_key=2)
_WORKER = Group("Worker", sort_key=3)
_ADMIN = Group("Admin", sort_key=0)

Switch: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]


def _flag(setting: Setting, group: Group) -> Any:
    kind, names, negative, text = setting.kind, f"--{setting.flag}", None, setting.text
    if kind is None:
        kind, names, negative = bool, f"--no-{setting.flag}", ""
        text = f"Turn this part off: {text[0].lower()}{text[1:]}".replace(": none ", ": it then ")
    default = setting.default
    is_shown = default not in (None, (), attrs.NOTHING)
    shown: Callable[[object], str] | bool = (lambda _: _written(default)) if is_shown else False
    parameter = Parameter(name=names, negative=negative, group=group, help=text, show_default=shown)
    flag: Any = attrs.field(default=None, type=Annotated[kind | None, parameter])  # type: ignore[call-overload]  # made at run time
    return flag


def _written(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _flags_class(name: str, applies: Callable[[KeyPath], bool], group: Group) -> Any:
    """Return a class with an attribute for each setting, which is None if its flag was not given.

    Only so can flags take precedence over files and the environment.
    """
    chosen = [setting for setting in all_settings() if applies(setting.path)]
    flags = {"__".join(setting.path): _flag(setting, group) for setting in chosen}
    return attrs.make_class(name, flags, frozen=True, kw_only=True)


if TYPE_CHECKING:
    DatabaseFlags: TypeAlias = Any  # classes made at run time, unknown to type checkers
    WorkerFlags: TypeAlias = Any
    RunFlags: TypeAlias = Any
    AdminFlags: TypeAlias = Any
else:
    DatabaseFlags = _flags_class("DatabaseFlags", lambda path: path[0] == "database", _DATABASE)
    WorkerFlags = _flags_class("WorkerFlags", lambda path: path[0] == "worker", _WORKER)
    AdminFlags = _flags_class(
        "AdminFlags",
        lambda path: path[0] == "admin" or path in (("tasks",), ("crontab",), ("plugins",)),
        _ADMIN,
    )
    RunFlags = _flags_class("RunFlags", lambda path: len(path) == 1 and path != ("tasks",), _RUN)


def given(*flags: Any) -> dict[KeyPath, Any]:
    """Return the values that flags gave, by path."""
    parts = {setting.path for setting in all_settings() if setting.kind is None}
    values = {
        tuple(name.split("__")): _as_in_a_file(value)
        for some in flags
        for name, value in attrs.asdict(some, recurse=False).items()
        if value is not None
    }
    return {path: False if path in parts else value for path, value in values.items()}


def _as_in_a_file(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


@attrs.frozen(kw_only=True)
class Common:
    """The flags of every command that uses the database."""

    config: Annotated[
        Path | None,
        Parameter(
            group=_COMMON,
            help="A file with settings. Defaults to trio_graphile.toml, else [tool.trio_graphile] in "
            "pyproject.toml, both in the current folder.",
        ),
    ] = None
    as_json: Annotated[Switch, Parameter(name="--json", group=_COMMON, help="Print JSON.")] = False
    verbose: Annotated[Switch, Parameter(group=_COMMON, help="Log what happens, and show tracebacks.")] = (
        False
    )
    database: Annotated[DatabaseFlags, Parameter(name="*")] = DatabaseFlags()  # noqa: RUF009  # it is frozen

    def settings(self, more: Mapping[KeyPath, Any] | None = None) -> Settings:
        """Configure logging and return all settings. Raises `UsageError`."""
        configure_logging(verbose=self.verbose)
        return load_settings(self.config, {**given(self.database), **(more or {})})


CommonFlags: TypeAlias = Annotated[Common, Parameter(name="*")]
NOTHING_GIVEN = Common()


class _StandardError(logging.StreamHandler[TextIO]):
    """Logs to the current standard error, so that a table on the terminal has all other output above it."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Ignore what the base class sets."""


def configure_logging(*, verbose: bool) -> None:
    """Log to standard error; the library itself configures no logging."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[_StandardError()],
    )
    # The audit log must stay. Handlers and executables log what is meant to be read, unlike the progress of
    # libraries.
    logging.getLogger("trio_graphile.job").setLevel(logging.INFO)
    logging.getLogger("trio_graphile.admin.audit").setLevel(logging.INFO)
