"""The program that a worker of ours is.

Processes of the lane import it, too, so it imports nothing else unless it is the program.
"""

from __future__ import annotations

if __name__ == "__main__":
    import trio

    from tests.storm.ours_worker import main

    trio.run(main)
