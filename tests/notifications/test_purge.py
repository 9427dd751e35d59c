"""Old notifications are deleted, and what still waits to be sent is not, for a while."""

from datetime import timedelta

import pytest

from authsvc.notifications import purge
from authsvc.notifications.purge import NotificationPurge
from authsvc.store.pool import Database
from tests.conftest import Clock
from tests.notifications.smtp import add, notification


async def _ids(database: Database) -> list[str]:
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT notification_id FROM authsvc.notifications ORDER BY number")
        return [row["notification_id"] for row in rows]


async def _work(database: Database, clock: Clock) -> None:
    async def pause() -> None: ...

    await NotificationPurge(database, clock=clock).work(pause)


async def test_what_is_old_is_deleted(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In batches, after 30 days; after 60 also what still waits, which the log says."""
    monkeypatch.setattr(purge, "BATCH", 2)
    await add(database, clock, ["ann@example.org"], *map(notification, range(1, 7)))
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE authsvc.mails SET state = 'sent' WHERE notification_id NOT IN ('evt_2', 'evt_5')"
        )
    clock.advance(days=29)
    await add(database, clock, ["ann@example.org"], notification(7))
    await _work(database, clock)
    assert len(await _ids(database)) == 7
    clock.advance(days=2)
    await _work(database, clock)
    assert await _ids(database) == ["evt_2", "evt_5", "evt_7"]
    clock.now += timedelta(days=28)
    await _work(database, clock)
    assert await _ids(database) == ["evt_2", "evt_5", "evt_7"]
    assert not caplog.records
    clock.now += timedelta(days=2)
    await _work(database, clock)
    assert await _ids(database) == ["evt_7"]
    assert "2 notifications were deleted although they still had to be sent" in caplog.text
