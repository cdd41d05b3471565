"""Everything that talks to PostgreSQL; `connection` is the one bridge to asyncio."""
