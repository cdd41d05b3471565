"""Loads plugins that are named like `app.plugins:metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._references import load_named
from trio_graphile.hooks import Plugin


def load_plugins(references: Sequence[str]) -> list[Plugin]:
    """Import plugins, in this order. Raises `UsageError`, or `TasksBroken` if an import fails."""
    return [_load_plugin(reference) for reference in references]


def _load_plugin(reference: str) -> Plugin:
    malformed = f"{reference!r} names no plugin: write MODULE:NAME, such as app.plugins:metrics"
    plugin: Any = load_named("plugin", reference, malformed)
    if callable(plugin) and (isinstance(plugin, type) or not hasattr(plugin, "register")):
        plugin = plugin()
    if not callable(getattr(plugin, "register", None)):
        raise UsageError(
            f"--plugin: {reference} is a {type(plugin).__name__} without a method register(hooks)"
        )
    return plugin  # type: ignore[no-any-return]  # as far as can be checked
