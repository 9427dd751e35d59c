"""Many clients that hold what is revoked: `python -m tests.bench.holding_clients ADDRESS NUMBER`.

Each is a whole `AuthClient` with a stream of its own. They are in one process, so that many of them leave
most of two cores to the service. The first line of the standard input is their key. Each further line is a
question, answered by a line: `{"hold": [...]}` has every client hold some keys, and `{"count": ...}` asks how
many of them accept a key from memory. They leave when the standard input ends.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop

from authsvc.client import AuthClient

_AT_A_TIME = 20


class Clients:
    """The clients, as the measuring process sees them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The number of their process."""
        return self._process.pid

    async def hold(self, keys: Sequence[str]) -> int:
        """Have every client hold these keys; return how many of all were VALID and are held."""
        return int(await self._ask(hold=list(keys)))

    async def accepting(self, key: str) -> int:
        """Return how many clients accept a key from memory, now."""
        return int(await self._ask(count=key))

    async def _ask(self, **question: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        return json.loads(await self.answer())

    async def answer(self) -> bytes:
        """Return the next line that they say."""
        assert self._process.stdout is not None
        if not (line := await self._process.stdout.readline()):
            raise RuntimeError("the clients have ended; their last words are above")
        return line


@asynccontextmanager
async def following(address: str, number: int, key: str) -> AsyncIterator[Clients]:
    """Run so many clients, which have their sub-leases, while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.holding_clients", address, str(number)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    try:
        clients = Clients(process)
        process.stdin.write(key.encode() + b"\n")
        await clients.answer()
        yield clients
    finally:
        process.stdin.close()
        await process.wait()


async def _run(address: str, number: int) -> None:
    lines = asyncio.StreamReader(limit=16 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    key = (await lines.readline()).decode().strip()
    async with AsyncExitStack() as stack:
        clients: list[AuthClient] = []
        for start in range(0, number, _AT_A_TIME):
            some = [
                AuthClient(address, key=key, tls=None, deadline=60.0, connections=1, hold=True)
                for _ in range(min(_AT_A_TIME, number - start))
            ]
            for client in some:
                await stack.enter_async_context(client)
            async with asyncio.timeout(60):
                while not all(client.hold_state.lease_seconds for client in some):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            clients += some
        print("following", flush=True)
        while line := await lines.readline():
            question = json.loads(line)
            if (keys := question.get("hold")) is not None:
                print(sum(await asyncio.gather(*(_hold(client, keys) for client in clients))), flush=True)
            else:
                print(sum(_accepts(client, question["count"]) for client in clients), flush=True)


async def _hold(client: AuthClient, keys: Sequence[str]) -> int:
    for key in keys:
        assert await client.verify_key(key, "orders:read")
    return sum(_accepts(client, key) for key in keys)


def _accepts(client: AuthClient, key: str) -> bool:
    return bool(client.verify_key_now(key, "orders:read"))


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], int(sys.argv[2])))
