"""Imports what users name like `app.jobs:tasks`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from trio_graphile.cli._errors import TasksBroken, UsageError


def load_named(flag: str, reference: str, if_malformed: str) -> object:
    """Import what a flag names. Raises as `split_reference` does, and `UsageError` if it does not exist."""
    module, name = split_reference(reference, if_malformed)
    if not hasattr(module, name):
        raise UsageError(f"--{flag}: {reference} does not exist")
    return getattr(module, name)


def split_reference(reference: str, if_malformed: str) -> tuple[ModuleType, str]:
    """Import the module of a reference, and return it with the name behind the colon.

    The module may also be in the current directory. Raises `UsageError`, with `if_malformed` for a reference
    that lacks either part, and `TasksBroken` if the module exists and its import fails.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise UsageError(if_malformed)
    return _import_module(module_name), name


def _import_module(name: str) -> ModuleType:
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is no module's name: write it as in an import, such as app.jobs")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {error.name!r}, in {here} or installed") from error
        raise TasksBroken(f"importing {name!r} failed: {_reason(error)} (--verbose shows where)") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):  # it would end this program, with an exit code of its choice
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    return f"{type(error).__name__}: {error}"
