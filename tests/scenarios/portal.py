"""A door from code that is not async to a Trio thread: Hypothesis drives its examples from outside."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import attrs
import trio

from trio_graphile import Database, DatabaseOptions, open_database
from trio_graphile.testing import TemplateDatabases

P = ParamSpec("P")
T = TypeVar("T")


@attrs.frozen
class Portal:
    """One database for all examples, and the Trio thread in which it is open."""

    url: str
    database: Database
    _token: trio.lowlevel.TrioToken
    _ended: trio.Event = attrs.field(factory=trio.Event)

    def __call__(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an async function there, and wait for it here."""
        return trio.from_thread.run(functools.partial(function, *args, **kwargs), trio_token=self._token)

    async def serve(self) -> None:
        await self._ended.wait()

    def close(self) -> None:
        self._token.run_sync_soon(self._ended.set)


@contextmanager
def open_portal(databases: TemplateDatabases) -> Iterator[Portal]:
    """Clone a database and keep it open for as long as the body lasts."""
    opened: Future[Portal] = Future()

    async def serve() -> None:
        async with databases.clone() as url, open_database(url, DatabaseOptions(pool_size=4)) as database:
            portal = Portal(url, database, trio.lowlevel.current_trio_token())
            opened.set_result(portal)
            await portal.serve()

    with ThreadPoolExecutor(1, thread_name_prefix="portal") as executor:
        serving = executor.submit(trio.run, serve)
        futures: list[Future[Any]] = [opened, serving]
        wait(futures, return_when=FIRST_COMPLETED)
        if not opened.done():
            serving.result()  # raises why it did not open
        portal = opened.result()
        try:
            yield portal
        finally:
            portal.close()
            serving.result()
