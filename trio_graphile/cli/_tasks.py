"""Loads registries that are named like `app.jobs:tasks`."""

from __future__ import annotations

from types import ModuleType

from trio_graphile._tasks.registry import TaskRegistry
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._references import split_reference


def load_tasks(reference: str) -> TaskRegistry:
    """Import the registry that `MODULE:TASKS` names; modules may also be in the current directory.

    Raises `UsageError`, or `TasksBroken` if the module exists and its import fails.
    """
    malformed = f"{reference!r} names no tasks: write MODULE:TASKS, such as app.jobs:tasks"
    module, name = split_reference(reference, malformed)
    found = getattr(module, name, None)
    if not isinstance(found, TaskRegistry):
        wrong = (
            f"is a {type(found).__name__}, not a TaskRegistry" if hasattr(module, name) else "does not exist"
        )
        raise UsageError(f"{reference} {wrong}{_suggestion(module)}")
    if not found.identifiers:
        raise UsageError(
            f"{reference} has no tasks: does {module.__name__} import the modules with the handlers?"
        )
    return found


def _suggestion(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, TaskRegistry)]
    if not names:
        return f"; there is no TaskRegistry in {module.__name__}"
    return "; did you mean " + " or ".join(f"{module.__name__}:{name}" for name in names) + "?"
