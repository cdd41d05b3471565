"""The fixtures of tests that run whole workers."""

from __future__ import annotations

from tests.support.fixtures import handlers

__all__ = ["handlers"]
