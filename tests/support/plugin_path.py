"""Where Python finds this package with its pytest plugin, also if it was not installed anew."""

from __future__ import annotations

import importlib.metadata
import os
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def plugin_path(folder: Path) -> str:
    """Return a `PYTHONPATH` on which pytest finds the plugin; what is missing is put into `folder`."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    known = {point.name for point in importlib.metadata.entry_points(group="pytest11")}
    if points.keys() <= known:
        return str(ROOT)
    info = folder / "installed" / "trio_graphile_plugin-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trio-graphile-plugin\nVersion: 0\n")
    lines = [f"{name} = {module}" for name, module in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]) + "\n")
    return os.pathsep.join([str(ROOT), str(info.parent)])
