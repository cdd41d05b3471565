"""How Oban for Python takes part in the storm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.install import Unavailable, python_program, version_of
from tests.storm.adapters import Contender

_HERE = Path(__file__).parent
_VERSIONS = ("python3.15", "python3.14", "python3.13", "python3.12")
_STATES = """
    select (args->>'token')::bigint as token,
      case state::text
        when 'executing' then 'running'
        when 'completed' then 'finished'
        when 'cancelled' then 'dead'
        when 'discarded' then 'dead'
        else 'waiting'
      end as state,
      attempt::integer as attempts,
      case when state = 'executing' then attempted_by[1] end as holder
    from oban_jobs
"""


def contender(cache: Path) -> Contender:
    version = version_of(_HERE / "requirements.txt", r"oban==(.+)")
    return Contender(
        project=f"Oban {version} (Python)",
        settings="shutdown_grace_period, and Snooze by handlers of ours; lifeline every 30 s, after 60 s",
        command=python_program(_HERE, cache, interpreter=_interpreter()),
        states=_STATES,
        recovers_after=90.0,
        remarks=(
            "What is left at the end of its grace period stays locked until its lifeline finds it.",
            "Ours hear of a stop from us, a second earlier, and snooze. It does not ask for that.",
        ),
    )


def _interpreter() -> str:
    """Return a Python that is new enough for it: this one, one on the path, or one of pyenv's."""
    if sys.version_info >= (3, 12):
        return sys.executable
    on_path = [found for name in _VERSIONS if (found := shutil.which(name))]
    of_pyenv = [str(path) for path in Path.home().glob(".pyenv/versions/3.1[2-9].*/bin/python")]
    for candidate in on_path + of_pyenv:
        if subprocess.run([candidate, "--version"], capture_output=True, check=False).returncode == 0:
            return candidate
    raise Unavailable("it asks for Python 3.12")
