"""Loads registries that are named like `app.jobs:tasks`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.cli._errors import TasksBroken, UsageError


def load_tasks(reference: str) -> TaskRegistry:
    """Import the registry that `MODULE:TASKS` names; modules may also be in the current directory.

    Raises `UsageError`, or `TasksBroken` if the module exists and its import fails.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise UsageError(f"{reference!r} names no tasks: write MODULE:TASKS, such as app.jobs:tasks")
    module = import_module(module_name)
    found = getattr(module, name, None)
    if not isinstance(found, TaskRegistry):
        wrong = (
            f"is a {type(found).__name__}, not a TaskRegistry" if hasattr(module, name) else "does not exist"
        )
        raise UsageError(f"{reference} {wrong}{_suggestion(module)}")
    if not found.identifiers:
        raise UsageError(
            f"{reference} has no tasks: does {module_name} import the modules with the handlers?"
        )
    return found


def import_module(name: str) -> ModuleType:
    """Import a module that the user names, also from the current directory. Raises as `load_tasks` does."""
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


def _suggestion(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, TaskRegistry)]
    if not names:
        return f"; there is no TaskRegistry in {module.__name__}"
    return "; did you mean " + " or ".join(f"{module.__name__}:{name}" for name in names) + "?"
