"""All that is done to private parts of asyncio, trio-asyncio and asyncpg, and the only way to these three.

`libraries` imports them, on every Python, and nothing of it is seen by a program that merely imports us.
"""
