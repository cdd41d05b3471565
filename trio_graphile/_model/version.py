"""The version of this package that is installed."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache  # it reads a file, and every heartbeat has it
def installed_version() -> str | None:
    """Return the version of trio-graphile; None if it runs from sources that were never installed."""
    try:
        return metadata.version("trio-graphile")
    except metadata.PackageNotFoundError:
        return None
