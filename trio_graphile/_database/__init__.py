"""All that talks to PostgreSQL; `driver` imports asyncpg and trio-asyncio."""
