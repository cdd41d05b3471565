"""All that talks to PostgreSQL; `connecting` and `connection` know asyncpg, `bridge` and `loops` asyncio."""
