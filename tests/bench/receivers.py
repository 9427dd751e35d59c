"""A mail server and a receiver of webhooks that accept everything, in a process of low priority.

They stand for machines of others, so what they do is not to slow down the client that measures.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from tests.e2e.process import free_port

_NICENESS = 10


class Receivers:
    """The process, as the measuring process sees it."""

    def __init__(self, process: asyncio.subprocess.Process, mail_port: int, hook_port: int) -> None:
        self._process = process
        self.mail_port, self.hook_port = mail_port, hook_port

    async def counts(self) -> tuple[int, int]:
        """Return how many mails have arrived, and how many calls of webhooks."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        mails, calls = await said(self._process)
        return mails, calls


@asynccontextmanager
async def receiving() -> AsyncIterator[Receivers]:
    """Run both while the block runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.receivers"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        yield Receivers(process, *await said(process))
    finally:
        process.stdin.close()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> Any:
    """Return the next line of the process."""
    assert process.stdout is not None
    if not (line := await process.stdout.readline()):
        raise RuntimeError("the receivers have ended; their last words are above")
    return json.loads(line)


class _Accepting(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.mails = self.calls = 0

    async def handle_DATA(self, *_: object) -> str:
        self.mails += 1
        return "250 OK"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        self.calls += 1
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()


async def _main() -> None:
    os.nice(_NICENESS)
    accepting, mail_port = _Accepting(), free_port()
    mail_server = Controller(accepting, hostname="127.0.0.1", port=mail_port)
    mail_server.start()
    server = await asyncio.start_server(accepting.answer, "127.0.0.1", 0)
    print(json.dumps([mail_port, server.sockets[0].getsockname()[1]]), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps([accepting.mails, accepting.calls]), flush=True)
    mail_server.stop()


if __name__ == "__main__":
    asyncio.run(_main())
