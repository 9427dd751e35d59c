"""The process and the event loop that a client was started in. It works only there.

A forked process does not have gRPC's threads. If its parent has used gRPC, calls in it are never answered.
Calls that gRPC's asyncio interface starts in one event loop are answered only in that loop.
"""

import asyncio
import os
from weakref import WeakSet

import grpc

from authsvc.client.errors import Refused


class Origin:
    """The place where a client was started. The client counts as running until `leave`."""

    def __init__(self) -> None:
        """Record the current process and event loop. Raise Refused if no client can run here."""
        if _Forks.while_running:
            raise forked()
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        _running.add(self)

    @property
    def is_this_process(self) -> bool:
        """Whether the client was started in this process, and not before a fork."""
        return self._pid == os.getpid()

    def check(self) -> None:
        """Raise Refused in another process or event loop."""
        if not self.is_this_process:
            raise forked()
        if asyncio.get_running_loop() is not self._loop:
            raise Refused(
                "this client was started in another event loop and works only there; start one client in "
                "each event loop, or use BlockingAuthClient, which has an event loop of its own",
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="CLIENT_OTHER_LOOP",
            )

    def leave(self) -> None:
        """Record that the client has ended."""
        _running.discard(self)


_running: WeakSet[Origin] = WeakSet()


class _Forks:
    while_running = False


def _note_fork() -> None:
    _Forks.while_running |= bool(_running)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_note_fork)


def forked() -> Refused:
    """Return the error for a process in which no client can run."""
    return Refused(
        "this process was forked from one in which a client was running, and gRPC does not work in such a "
        "process; start clients only after the fork, one in each process",
        code=grpc.StatusCode.FAILED_PRECONDITION,
        reason="CLIENT_FORKED",
    )
