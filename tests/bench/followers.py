"""Registrations of replicas that serve nobody: `python -m tests.bench.followers URL NUMBER`.

Each registers as the follower of a replica does, listens for hints, and acknowledges each change by the
statement of a follower, over a connection of its own. The rest of a follower is left out: real ones run on
machines of their own, and here all of them share a core with what is measured. They do not renew, so
they have to end within their lease. A line tells when all of them follow; they stop when the standard input
ends.
"""

import asyncio
import os
import sys
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvloop

from authsvc.store.feed import _from_payload
from authsvc.store.queries import load_queries

_SQL = load_queries("feed.sql")
_LEASE_MS = 60_000


async def _follow(url: str, worker_id: UUID) -> asyncpg.Connection:
    """Register, and acknowledge what is announced from then on."""
    connection = await asyncpg.connect(url)
    await connection.execute(_SQL["register"], worker_id, _LEASE_MS, "bench", os.getpid(), uuid4())
    acknowledge = await connection.prepare(_SQL["acknowledge"])
    acknowledging: set[asyncio.Task[Any]] = set()

    def hear(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if (entry := _from_payload(str(payload))) is not None:
            task = asyncio.create_task(acknowledge.fetchval(worker_id, *entry.place, None, None))
            acknowledging.add(task)
            task.add_done_callback(acknowledging.discard)

    await connection.add_listener("authsvc_feed", hear)
    return connection


async def _run(url: str, number: int) -> None:
    worker_ids = [uuid4() for _ in range(number)]
    connections = [await _follow(url, worker_id) for worker_id in worker_ids]
    print("following", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await connections[0].execute(_SQL["leave"], worker_ids)
    for connection in connections:
        await connection.close()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], int(sys.argv[2])))
