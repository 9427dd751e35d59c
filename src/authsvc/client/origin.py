"""The process and the event loop that a client was started in: it works there, and nowhere else.

gRPC's threads do not come along when a process is forked, so in the child of one that used gRPC nothing is
ever answered. What gRPC's asyncio interface begins in one event loop is answered in that loop alone.
"""

import asyncio
import os
from weakref import WeakSet

import grpc

from authsvc.client.errors import Refused


class Origin:
    """Where a client was started. Its client is running until `leave`."""

    def __init__(self) -> None:
        """Take the process and the event loop that we are in; raise Refused where no client can run."""
        if _Forks.while_running:
            raise forked()
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        _running.add(self)

    @property
    def is_this_process(self) -> bool:
        """Whether the client was started here, and not before a fork."""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Raise Refused in another process and in another event loop."""
        if not self.is_this_process:
            raise forked()
        if asyncio.get_running_loop() is not self._loop:
            raise Refused(
                "this client was started in another event loop and works in that one alone: start one in "
                "each loop, or take BlockingAuthClient, which has a loop of its own",
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="CLIENT_OTHER_LOOP",
            )

    def leave(self) -> None:
        """Say that the client has ended."""
        _running.discard(self)


_running: WeakSet[Origin] = WeakSet()


class _Forks:
    while_running = False


def _note_fork() -> None:
    _Forks.while_running |= bool(_running)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_note_fork)


def forked() -> Refused:
    """Say that no client can run here."""
    return Refused(
        "this process was forked from one where a client was running, and gRPC does not work in such a "
        "process: start clients after the fork alone, one in each process",
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="CLIENT_FORKED",
    )
