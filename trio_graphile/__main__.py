"""`python -m trio_graphile` is `trio-graphile`."""

from __future__ import annotations

from trio_graphile.cli import main

if __name__ == "__main__":
    main()
