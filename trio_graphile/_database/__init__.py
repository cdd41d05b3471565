"""Everything that talks to PostgreSQL; `bridge` is the one way to asyncio, `connection` to asyncpg."""
