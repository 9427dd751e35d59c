"""Clients that create, verify and revoke keys through several replicas, as docs/afternoon.md has them."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import grpc

from tests.conftest import Client


@dataclass
class Load:
    """What was called, and what was not answered as it should."""

    rounds: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def channel(checkout: Path, addresses: list[str], authority: bytes) -> grpc.aio.Channel:
    """Open a channel to all addresses in turns, with the retry policy of docs/operations.md."""
    text = (checkout / "docs/operations.md").read_text("utf-8")
    config = json.loads(re.findall(r"```json\n(\{\"methodConfig.*?)```", text, re.DOTALL)[0])
    config["loadBalancingConfig"] = [{"round_robin": {}}]
    return grpc.aio.secure_channel(
        f"ipv4:{','.join(addresses)}",
        grpc.ssl_channel_credentials(authority),
        options=[
            ("grpc.service_config", json.dumps(config)),
            ("grpc.ssl_target_name_override", "localhost"),
            ("grpc.enable_http_proxy", 0),
            # Otherwise a replica that was away for long is not tried again for up to two minutes.
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )


@asynccontextmanager
async def load(admin: Client, clients: int) -> AsyncIterator[Load]:
    """Call while the block runs, and end whole rounds."""
    found, over = Load(), asyncio.Event()

    async def go_on(number: int) -> None:
        while not over.is_set():
            try:
                await _round(admin, f"owner{number}", found)
            except grpc.aio.AioRpcError as error:
                found.lost.append(f"{error.code()}: {error.details()}")
            await asyncio.sleep(0.05)  # Light: the machine of a test has few cores.

    tasks = [asyncio.create_task(go_on(number)) for number in range(clients)]
    try:
        yield found
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def _round(admin: Client, owner_id: str, found: Load) -> None:
    """Create a key, verify it twice, revoke it, verify it on each replica."""
    made = await admin.CreateKey(owner_id=owner_id, display_name="x", request_id=str(uuid4()))
    for _ in range(2):
        if not (await admin.VerifyKey(key_string=made.key_string)).valid:
            found.wrong.append("a new key is refused")
    await admin.RevokeKey(key_id=made.key.key_id)
    for _ in range(4):
        if (await admin.VerifyKey(key_string=made.key_string)).valid:
            found.wrong.append("a revoked key is accepted")
    found.rounds += 1
