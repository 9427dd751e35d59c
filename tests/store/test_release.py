"""A connection is given back while the database does not answer, and its caller goes away."""

import asyncio
import gc

import asyncpg
import pytest

from authsvc.store import pool
from authsvc.store.pool import Database
from tests.faults.proxy import Proxy


async def test_a_failure_that_nobody_waits_for_is_not_an_error_in_the_log(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver waits for the end of a statement that it has cancelled, which never comes."""
    releasing = asyncio.Event()
    release = asyncpg.Pool.release

    async def observed(*asked: object, **given: object) -> None:
        releasing.set()
        await release(*asked, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncpg.Pool, "release", observed)
    async with Proxy(database_url) as proxy, Database.open(proxy.url, size=1) as database:

        async def use() -> None:
            async with database.connection() as connection:
                monkeypatch.setattr(pool, "_MAX_WAIT_SECONDS", 0.1)
                proxy.cut()
                await connection.execute("SELECT pg_sleep(60)", timeout=0.1)

        caller = asyncio.create_task(use())
        await releasing.wait()
        # The release itself begins after this.
        asyncio.get_running_loop().call_soon(caller.cancel)
        with pytest.raises(asyncio.CancelledError):
            await caller
        while database._pool.get_size():  # noqa: ASYNC110 - the driver tells nobody
            await asyncio.sleep(0.01)
        gc.collect()
        await asyncio.sleep(0)
    assert [record for record in caplog.records if record.name == "asyncio"] == []
