"""On what was measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trio_graphile import open_database
from trio_graphile.embedded import PostgresServer

_MEASURED_WITH = ("trio", "trio-asyncio", "asyncpg", "attrs", "cattrs", "orjson")
_SETTINGS = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
_TOOLS = {
    "node": ["node", "--version"],
    "go": ["go", "env", "GOVERSION"],
    "rust": ["rustc", "--version"],
}


async def machine_facts(server: PostgresServer, folder: str | Path) -> dict[str, Any]:
    """Return what somebody has to know who reads the figures."""
    async with open_database(server.url) as database:
        settings = {name: await database.fetch_value(f"show {name}") for name in _SETTINGS}
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: _version(command) for name, command in _TOOLS.items()},
        "postgresql": server.version,
        "settings": settings,
        "free_bytes": shutil.disk_usage(folder).free,
        "packages": {name: version(name) for name in _MEASURED_WITH},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(command: list[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
