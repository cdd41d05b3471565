"""Loads functions that are named like `app.jobs:setup`, and lends what they yield."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import attrs

from trio_graphile._database.database import Database
from trio_graphile._exceptions import GraphileError
from trio_graphile._model.groups import leaves
from trio_graphile._worker.setup import WorkerSetup
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._references import load_named

SetupFunction: TypeAlias = Callable[[Database], object]


class SetupFailed(GraphileError):
    """The user's function failed, before, while or after the worker ran."""


@attrs.frozen
class Setup:
    """A setup function of the user, and its name."""

    reference: str
    _function: SetupFunction

    @contextlib.asynccontextmanager
    async def lend(self, database: Database) -> AsyncIterator[WorkerSetup]:
        """Lend what the function yields, until the body ends.

        Raises `SetupFailed`, and `UsageError` if that is no `WorkerSetup`.
        """
        try:
            async with self._opened(database) as lent:
                yield self._checked(lent)
        except Exception as error:
            foreign = [leaf for leaf in leaves(error) if not isinstance(leaf, GraphileError)]
            if not foreign:
                raise
            reason = f"{type(foreign[0]).__name__}: {foreign[0]}"
            raise SetupFailed(
                f"--setup: {self.reference} failed: {reason} (--verbose shows where)"
            ) from error

    def _opened(self, database: Database) -> AbstractAsyncContextManager[object]:
        manager = self._function(database)
        if not isinstance(manager, AbstractAsyncContextManager):
            raise UsageError(
                f"--setup: {self.reference} returns a {type(manager).__name__}, not an async context "
                "manager: decorate it with contextlib.asynccontextmanager"
            )
        return manager

    def _checked(self, lent: object) -> WorkerSetup:
        if lent is None:
            return WorkerSetup()
        if not isinstance(lent, WorkerSetup):
            raise UsageError(f"--setup: {self.reference} yields a {type(lent).__name__}, not a WorkerSetup")
        return lent


def load_setup(reference: str | None) -> Setup:
    """Import a setup function; without one, nothing is lent. Raises `UsageError`, and as `load_tasks`."""
    if reference is None:
        return Setup("nothing", lend_nothing)
    malformed = f"{reference!r} names no setup: write MODULE:FUNCTION, such as app.jobs:setup"
    function = load_named("setup", reference, malformed)
    if not callable(function):
        raise UsageError(f"--setup: {reference} is a {type(function).__name__}, not a function")
    return Setup(reference, function)


def lend_nothing(_: Database) -> AbstractAsyncContextManager[None]:
    """Lend nothing."""
    return contextlib.nullcontext()
