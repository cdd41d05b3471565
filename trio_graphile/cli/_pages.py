"""`--health-listen` and `--metrics-listen`: pages that a worker serves over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
import trio

from trio_graphile._exceptions import GraphileError, OptionInvalid
from trio_graphile.cli._errors import UsageError
from trio_graphile.cli._settings import Settings
from trio_graphile.hooks import ObservedWorker, Plugin
from trio_graphile.plugins.pages import Pages, health_pages, serve_pages


@attrs.frozen(kw_only=True)
class Metrics:
    """The metrics of this process: the plugin that counts, and its page."""

    plugins: Sequence[Plugin] = ()
    pages: Pages = attrs.field(factory=dict)


def make_metrics(settings: Settings) -> Metrics:
    """Return the metrics, if they are to be served. Raises `UsageError` if their library is missing."""
    if settings.metrics_listen is None:
        return Metrics()
    try:
        from trio_graphile.plugins.prometheus import Prometheus
    except ModuleNotFoundError as error:
        raise UsageError(f"--metrics-listen: {error.msg}") from None
    prometheus = Prometheus()
    return Metrics(plugins=[prometheus], pages=prometheus.pages())


async def serve(
    nursery: trio.Nursery, settings: Settings, worker: ObservedWorker, metrics: Metrics, *, number: int
) -> Mapping[str, Pages]:
    """Start serving the pages in the given nursery; return the addresses with their pages.

    `number` is that of the process, from 1: each further one listens on the next port. Raises `UsageError`
    for an invalid address, and `GraphileError` if we cannot listen there.
    """
    wanted = {
        "health": (settings.health_listen, health_pages(worker)),
        "metrics": (settings.metrics_listen, metrics.pages),
    }
    bound: dict[str, Pages] = {}
    for address, name, pages in _by_address(wanted):
        own = shifted(address, number - 1)
        try:
            bound[await nursery.start(serve_pages, own, pages)] = pages
        except OptionInvalid as error:
            raise UsageError(f"--{name}-listen: {error.reason}") from None
        except OSError as error:
            whose = f" (worker {number}'s, counted from {address})" if own != address else ""
            raise GraphileError(f"--{name}-listen: {own}{whose} cannot be listened to: {error}") from None
    return bound


def _by_address(wanted: Mapping[str, tuple[str | None, Pages]]) -> Iterator[tuple[str, str, Pages]]:
    """Yield each address once, with the flag that named it first and all pages to be served there."""
    pages: dict[str, tuple[str, Pages]] = {}
    for name, (address, some) in wanted.items():
        if address is not None:
            first, others = pages.get(address, (name, {}))
            pages[address] = (first, {**others, **some})
    for address, (name, some) in pages.items():
        yield address, name, some


def shifted(address: str, by: int) -> str:
    """Return an address with a higher port; port 0, for which the system chooses a free one, stays."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) == 0:
        return address
    return f"{host}:{int(port) + by}"
