"""Where a process that serves clients which follow it can be stopped, or can be made to hang, by a test.

The orders are files in a directory, as those of `tests.faults.worker`. `stop-<stage>`: the process stops
itself (SIGSTOP) the next time it reaches that stage. `hang-writes`, `hang-reads`: while one exists, nothing
is sent on the streams of clients, or nothing is read from them; everything else goes on.
"""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from authsvc.rpc import following
from authsvc.v1 import holder_service_pb2 as pb

STAGES = (
    "grant-queued",  # a sub-lease is granted, and the client cannot know yet
    "grant-sent",
    "held-sent",  # a credential was sent, which the client may hold now
    "forget-sent",  # a change was passed on, and the client has not confirmed
    "confirm-read",  # it has confirmed, and nobody was told
)


def stop_at(directory: Path, stage: str) -> None:
    """Stop this process if it is ordered to at this stage."""
    try:
        # Of several processes, one.
        (directory / f"stop-{stage}").unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGSTOP)


def install(directory: Path) -> None:
    """Look for these orders in this process, and in those that are forked from it."""
    begin, grant = following.Following.__init__, following.Following.grant

    def staged(stream: Any, context: Any, *given: Any) -> None:
        begin(stream, _Staged(context, directory), *given)

    def granted(stream: Any, *given: Any) -> None:
        grant(stream, *given)
        stop_at(directory, "grant-queued")

    following.Following.__init__ = staged  # type: ignore[assignment, method-assign]
    following.Following.grant = granted  # type: ignore[assignment, method-assign]


class _Staged:
    """The stream of a client."""

    def __init__(self, context: Any, directory: Path) -> None:
        self._context, self._directory = context, directory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        data = await self._context.read()
        await self._hang("hang-reads")
        if isinstance(data, bytes) and pb.FollowRequest.FromString(data).HasField("confirm"):
            stop_at(self._directory, "confirm-read")
        return data

    async def write(self, data: bytes) -> None:
        await self._hang("hang-writes")
        await self._context.write(data)
        stop_at(self._directory, f"{pb.FollowResponse.FromString(data).WhichOneof('message')}-sent")

    async def _hang(self, order: str) -> None:
        while (self._directory / order).exists():  # noqa: ASYNC110 - another process ends it
            await asyncio.sleep(0.002)
