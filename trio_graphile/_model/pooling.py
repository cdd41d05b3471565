"""Says which pooler stands between us and the server, and what that means. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from trio_graphile._model.finding import Finding, Level


@attrs.frozen(kw_only=True)
class SettingsFacts:
    """Facts about what became of the settings with which sessions of ours are opened."""

    are_refused: bool = False
    """Whether a pooler refuses a session because of them."""
    ignored: Sequence[str] = ()
    """The names of those that a session does not have although it asked for them."""


@attrs.frozen(kw_only=True)
class PoolingFacts:
    """Facts about what stands between us and the server."""

    mode: Literal["transaction", "session"] | None = None
    """The mode of the pooler. In transaction mode, the server process behind an open session of ours changes;
    in session mode, the pooler refuses the settings of our sessions. None if we see no pooler."""
    ignored: Sequence[str] = ()
    """As in `SettingsFacts`."""
    is_expected: bool = False
    """Whether the options say that there is one."""
    may_listen: bool = True
    """Whether the options let workers listen."""
    hears: bool = True
    """Whether a notification reached a session that listens."""


def diagnose_pooling(facts: PoolingFacts) -> Finding:
    """Say whether there is a pooler for which the options do not allow."""
    text = f"a pooler in {facts.mode} mode stands between us and the server"
    if facts.mode is None and facts.ignored:
        names = ", ".join(facts.ignored)
        return Finding(
            "pooling",
            Level.WARNING,
            f"a pooler stands between us and the server, and ignores settings of our sessions: {names}",
            "set them for the role (alter role ... set ...); or run all programs with --pooled, which needs "
            "none, and a --direct-url that bypasses the pooler",
        )
    if facts.mode is None:
        return Finding("pooling", Level.OK, "sessions are the server's own")
    if facts.is_expected:
        return Finding("pooling", Level.OK, f"{text}, as the options say")
    advice = "run all programs with --pooled, best with a --direct-url that bypasses the pooler, too"
    if facts.mode == "transaction":
        return Finding("pooling", Level.WARNING, text, advice)
    return Finding("pooling", Level.PROBLEM, f"{text}, and refuses the settings of our sessions", advice)


def diagnose_listening(facts: PoolingFacts) -> Finding:
    """Say whether workers hear of jobs."""
    if facts.hears:
        return Finding("notifications", Level.OK, "what is notified is heard")
    if not facts.may_listen:
        return Finding(
            "notifications",
            Level.NOTE,
            "workers do not listen behind a pooler: they find jobs by polling",
            "give them a --direct-url that bypasses the pooler",
        )
    return Finding(
        "notifications",
        Level.PROBLEM,
        "a notification did not come back: jobs would be found by polling alone",
        "connect directly, or give a --direct-url that bypasses the pooler; or set --no-notifications",
    )
