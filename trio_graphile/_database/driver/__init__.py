"""All that is done to private parts of asyncio, trio-asyncio and asyncpg, and the only way to these three.

`libraries` imports them, on every Python. `shortcuts` lists what we make use of, why, and how we look at it
first; `futures`, `loops` and `sessions` do it. A program that merely imports us sees nothing of it.
"""
