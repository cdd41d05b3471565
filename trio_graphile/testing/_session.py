"""What outlives a test: the server of a session, and the template on it. The pytest plugin uses it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import trio

from trio_graphile._model.options import DatabaseOptions
from trio_graphile.testing._databases import TemplateDatabases
from trio_graphile.testing._server import embedded_postgres_in_thread, folder_in_memory


@contextmanager
def template_databases(
    url: str | None, options: DatabaseOptions, prepare: Callable[..., Iterable[object]]
) -> Iterator[TemplateDatabases]:
    """Lend databases on the server at a URL, or on an embedded one that runs as long as the block.

    `prepare` is called with the URL of the template and returns what several functions have returned; those
    that are async have returned awaitables.
    """
    prepare_all = partial(_prepare, prepare)
    if url:
        databases = TemplateDatabases(url, options=options, prepare=prepare_all)
        yield databases
        _run_in_thread(databases.aclose)
        return
    with embedded_postgres_in_thread(temporary_in=folder_in_memory()) as server:
        yield TemplateDatabases(server.url, options=options, prepare=prepare_all)


async def _prepare(prepare: Callable[..., Iterable[object]], url: str) -> None:
    for answer in await trio.to_thread.run_sync(partial(prepare, url=url)):
        if inspect.isawaitable(answer):
            await answer


def _run_in_thread(function: Callable[[], Awaitable[None]]) -> None:
    """Run an async function to its end, in a thread: this one may have an event loop already."""
    with ThreadPoolExecutor(1) as executor:
        executor.submit(trio.run, function).result()
