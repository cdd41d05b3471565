"""How fast is it beside its peers? See `--help` and the README."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.benchmarks.compare import main  # noqa: E402

trio.run(main)
