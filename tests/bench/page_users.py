"""Users of the console, in a process of low priority: each opens one page after the other.

They stand for browsers on machines of others, so what they do is not to slow down the client that measures.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_NICENESS = 10
# Pages until the users are as many as they stay, and the credit of the pages is used up.
_FIRST_PAGES = 30
_PAGES = ("/keys?owner=acme", "/devices?owner=acme", "/audit?owner=acme", "/keys/new?owner=acme")


@asynccontextmanager
async def opening(port: int, session_token: str, users: int) -> AsyncIterator["Users"]:
    """Have so many users open pages while the block runs; they have had their first pages before."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.page_users", str(port), str(users)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{session_token}\n".encode())
    if not await process.stdout.readline():
        raise RuntimeError("the users of the pages have ended; their last words are above")
    seen = Users()
    try:
        yield seen
    finally:
        process.stdin.close()
        seen.pages = json.loads(await process.stdout.readline())
        await process.wait()


class Users:
    """How many pages they have got, once they have ended."""

    pages: int = 0


async def _browse(port: int, token: str, number: int, got: list[int], first: asyncio.Event) -> None:
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                path = _PAGES[(number + got[0]) % len(_PAGES)]
                head = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncookie: authsvc={token}\r\n\r\n"
                writer.write(head.encode())
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(answer.partition(b"content-length:")[2].split(b"\r\n")[0]))
                if answer.startswith(b"http/1.1 200"):
                    got[0] += 1
                    if got[0] >= _FIRST_PAGES:
                        first.set()
        except (OSError, asyncio.IncompleteReadError):  # the page took too long
            writer.close()


async def _main(port: int, users: int) -> None:
    os.nice(_NICENESS)
    token, got, first = sys.stdin.readline().strip(), [0], asyncio.Event()
    browsing = [asyncio.create_task(_browse(port, token, number, got, first)) for number in range(users)]
    await first.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in browsing:
        task.cancel()
    print(json.dumps(got[0]), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
