"""Pure: bytes and texts as PostgreSQL sends them become Arrow columns."""
