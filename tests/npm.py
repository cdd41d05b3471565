"""Packages from npm: each version is installed once for all runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Beside npm's own cache if we are told where that is, else a folder of this user's."""
    told = os.environ.get("npm_config_cache")  # noqa: SIM112  # npm reads it in small letters
    folder = Path(told) if told else Path(tempfile.gettempdir()) / f"graphile-worker-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def installed(package: str, version: str) -> Path:
    """Return a folder with the package in it. Of test runs that ask at the same time the first one wins."""
    cache = cache_folder()
    folder = cache / f"{package}-{version}"
    if folder.exists():
        return folder
    with tempfile.TemporaryDirectory(prefix="installing-", dir=cache) as temporary:
        fresh = Path(temporary) / "package"
        fresh.mkdir()
        manifest = {"private": True, "dependencies": {package: version}}
        (fresh / "package.json").write_text(json.dumps(manifest))
        command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        npm = subprocess.run(command, cwd=fresh, capture_output=True, text=True, check=False)
        if npm.returncode != 0:
            raise RuntimeError(f"npm could not install {package} {version}:\n{npm.stdout}{npm.stderr}")
        with contextlib.suppress(OSError):  # somebody else was faster
            fresh.rename(folder)
    return folder
