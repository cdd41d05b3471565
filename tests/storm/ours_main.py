"""The program that we are in the storm; with `--careless` SIGTERM kills its worker, as any program.

Processes of the lane import it, too, so it imports nothing else unless it is the program.
"""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from functools import partial

    import trio

    from tests.storm import ours_client, ours_worker

    *flags, part = sys.argv[1:]
    match part:
        case "setup":
            trio.run(ours_client.set_up)
        case "add":
            trio.run(ours_client.add)
        case _:
            trio.run(partial(ours_worker.main, heeds_signals="--careless" not in flags))
