"""What changes read of large tables."""

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.policy import OwnerPolicy
from authsvc.store.authority import Claim, hold, share_at_once
from authsvc.store.pool import Connection, Database
from tests.bench import session_rows
from tests.conftest import Service

_READ = """
SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
  FROM pg_stat_xact_user_tables WHERE relname = 'sessions'
"""


async def test_plans_of_an_empty_table_do_not_read_all_of_a_large_one(
    service: Service, database_url: str
) -> None:
    """A deployment begins empty, and its tables are analyzed some time after they have grown."""
    key = await service.admin.LookupKey(key_string=service.admin_key)
    caller = Caller(key.key_id, "authsvc", ("full_access",), CredentialKind.KEY)
    claim = Claim(relies_on=["acme"], opens_sessions_of=["acme"])

    async def open_one(connection: Connection) -> None:
        await share_at_once(connection, [caller], ["acme"])
        held = await hold(connection, [caller], claim, OwnerPolicy())
        assert list(held) == [key.key_id]

    async with Database.open(database_url, size=1) as database:
        async with database.connection() as connection:
            await connection.execute("ALTER TABLE authsvc.sessions SET (autovacuum_enabled = off)")
        for _ in range(10):  # A plan is kept from the sixth time on.
            async with database.transaction() as connection:
                await open_one(connection)
        async with database.connection() as connection:
            await session_rows.generate(connection, "acme", 5000)  # type: ignore[arg-type]
        async with database.transaction() as connection:
            await open_one(connection)
            assert await connection.fetchval(_READ) < 10
