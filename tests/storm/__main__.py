"""What becomes of jobs when their workers are ended, one after the other? See `--help` and the README."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

sys.path[0] = str(Path(__file__).parents[2])  # this folder is there, the repository is wanted

from tests.storm.compare import main  # noqa: E402

sys.exit(trio.run(main))
