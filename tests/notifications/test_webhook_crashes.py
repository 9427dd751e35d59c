"""A worker is killed at each step of a delivery: nothing is lost, and at most that one is made twice."""

import asyncio
import os
import signal
import sys

import asyncpg
import pytest

from authsvc.model.address import network
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.sender import LEASE, WebhookSender
from authsvc.store.pool import Database
from tests.conftest import Clock, eventually
from tests.notifications.receiver import Request, answering, receiving
from tests.notifications.webhook_rows import KEYS, deliveries, insert_deliveries, insert_webhook

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("step", "received"),
    [
        ("claimed", [1, 2, 3]),
        ("calling", [1, 1, 2, 3]),
        ("sent", [1, 1, 2, 3]),
        ("noting", [1, 1, 2, 3]),
        ("noted", [1, 2, 3]),
    ],
)
async def test_a_crash(step: str, received: list[int], database_url: str, clock: Clock) -> None:
    process: asyncio.subprocess.Process | None = None

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        if step == "calling" and process is not None and process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
        else:
            await answering(204)(request, writer)

    connection = await asyncpg.connect(database_url)
    async with receiving(answer) as receiver, Database.open(database_url, size=2) as database:
        await insert_webhook(connection, clock(), url=f"http://127.0.0.1:{receiver.port}/")
        ids = await insert_deliveries(connection, clock(), 3)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.notifications.dying_sender", database_url, clock().isoformat(), step
        )
        assert await process.wait() == -signal.SIGKILL
        caller = WebhookCaller(KEYS, AddressRules([network("127.0.0.0/8")]), clock)
        sender = WebhookSender(database, caller, clock)
        # Others wait for as long as it may still be alive.
        assert await sender.look() == 0
        clock.advance(seconds=LEASE.total_seconds() + 1)

        async def look() -> int:
            """Look again for as long as the database has not noticed the death."""
            return await sender.look()

        await eventually(look, bool)
        await sender.settle()
        assert receiver.ids == [ids[number - 1] for number in received]
        assert {(row["state"], row["attempt_count"]) for row in await deliveries(connection)} == {
            ("delivered", 1)
        }
    await connection.close()
