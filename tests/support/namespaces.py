"""Whether a process of root's may have namespaces of its own, in which a server runs as somebody else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXEC = Path(__file__).parents[2] / "trio_graphile" / "embedded" / "_exec.py"


def may_make_namespaces() -> bool:
    """Whether the system lets us run a program in a user namespace: in a chroot it does not."""
    command = [sys.executable, "-I", "-S", str(EXEC), "--userns", "--", sys.executable, "-c", ""]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


with_namespaces = pytest.mark.skipif(
    sys.platform == "linux" and not may_make_namespaces(), reason="no user namespaces here, as in a chroot"
)
