"""A worker that makes deliveries to webhooks, and is killed at a step of the first one.

`python -m tests.notifications.dying_sender DATABASE_URL TIME STEP`
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from authsvc.model.address import network
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.sender import WebhookSender
from authsvc.store import webhook_deliveries
from authsvc.store.pool import Database
from tests.notifications.webhook_rows import KEYS

#: What it is killed after, by the step.
STEPS: dict[str, tuple[Any, str]] = {
    "claimed": (WebhookSender, "_next"),  # The line is claimed, and the delivery is read.
    "sent": (WebhookSender, "_attempt"),
    "noting": (webhook_deliveries, "note_success"),  # Before the commit.
    "noted": (WebhookSender, "_deliver"),
}


def _deadly(work: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    async def die_after(*arguments: Any, **options: Any) -> object:
        await work(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    return die_after


async def _main(database_url: str, time: str, step: str) -> None:
    if step in STEPS:
        owner, name = STEPS[step]
        setattr(owner, name, _deadly(getattr(owner, name)))
    now = datetime.fromisoformat(time)
    caller = WebhookCaller(KEYS, AddressRules([network("127.0.0.0/8")]), lambda: now)
    async with Database.open(database_url, size=2) as database:
        sender = WebhookSender(database, caller, lambda: now)
        await sender.look()
        await sender.settle()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
