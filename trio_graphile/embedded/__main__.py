"""`python -m trio_graphile.embedded [FOLDER]`: runs a PostgreSQL until Ctrl-C or SIGTERM, and prints its URL.

The data is kept in the folder; without one it is gone afterwards.
"""

from __future__ import annotations

import argparse
import signal
import sys

import trio

from trio_graphile._exceptions import EmbeddedPostgresError, PostgresNotFound
from trio_graphile.embedded._server import embedded_postgres


async def serve(directory: str | None) -> None:
    """Print the URL, and wait for a signal."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async with embedded_postgres(directory) as server:
            print(server.url, flush=True)  # noqa: T201  # a program prints
            await anext(received)


def main() -> None:
    """Serve the folder that is named, or a temporary one."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_graphile.embedded",
        description="Run a PostgreSQL until Ctrl-C or SIGTERM, and print its URL.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="where the data is kept; without one it is gone afterwards",
    )
    try:
        trio.run(serve, parser.parse_args().folder)
    except (EmbeddedPostgresError, PostgresNotFound) as error:
        sys.exit(f"trio_graphile.embedded: {error}")


if __name__ == "__main__":
    main()
