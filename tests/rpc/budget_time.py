"""The time of the budgets of rate limits, which is that of the database, and which a test can set."""

from datetime import UTC, datetime, timedelta

import asyncpg


class BudgetTime:
    """Stands still until the test moves it. All workers on a database share it."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self.now = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    async def set(self, seconds: float = 0.0) -> None:
        """Move it by so many seconds, back if negative."""
        self.now += timedelta(seconds=seconds)
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(
                "CREATE OR REPLACE FUNCTION authsvc.budget_time() RETURNS timestamptz LANGUAGE sql VOLATILE "
                f"AS $$ SELECT '{self.now.isoformat()}'::timestamptz $$"
            )
        finally:
            await connection.close()


async def budgets(database_url: str) -> dict[tuple[str, str], float]:
    """Return how many units count as taken, by subject and name."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT subject, name, used FROM authsvc.rate_budgets")
    finally:
        await connection.close()
    return {(row["subject"], row["name"]): row["used"] for row in rows}
