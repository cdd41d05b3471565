"""Who takes part in the storm. The README has the contract."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

import attrs

from tests.benchmarks.install import Unavailable

_PEERS = Path(__file__).parent / "peers"


@attrs.frozen(kw_only=True)
class Contender:
    """A project, with the settings that its documentation recommends for a stop."""

    project: str
    """With version and language, such as `River 0.51.2 (Go)`."""
    settings: str
    """In one line, how its stop is configured, for the table: options by their names, with values."""
    command: list[str]
    """The command that gets `setup`, `worker` or `add` as its last word."""
    states: str
    """The query for the state of each job."""
    locks: str | None = None
    """A query for the holders of locks on anything but jobs, if the project has such locks."""
    recovers_after: float | None = None
    """After how many seconds jobs of a killed worker run again, by its documentation and with these settings;
    None for never."""
    remarks: tuple[str, ...] = ()
    """What a reader of the table has to know in order to be fair to it."""


def peer_names() -> list[str]:
    """Return the names of the peers, which are their folders."""
    return sorted(path.parent.name for path in _PEERS.glob("*/adapter.py"))


def available(names: Iterable[str], cache: Path) -> list[Contender]:
    """Install these peers and return those that can be had here; say on stderr which cannot, and why."""
    found = []
    for name in names:
        try:
            found.append(install(name, cache))
        except Unavailable as reason:
            print(f"Without {name}: {reason}.", file=sys.stderr, flush=True)
    return found


def install(name: str, cache: Path) -> Contender:
    """Install a peer, unless it is there from before, and return it. Raises `Unavailable`."""
    adapter = importlib.import_module(f"tests.storm.peers.{name}.adapter")
    contender: Contender = adapter.contender(cache / "storm")
    return contender
