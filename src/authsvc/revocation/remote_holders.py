"""The workers of this replica, in other processes, as their follower sees them.

Failure: a channel that ends says that its worker has ended, or has given up its lease before it closed it.
"""

import asyncio
import logging
import socket
from typing import Any

from authsvc.net.private_listener import PrivateListener
from authsvc.revocation.follower import Follower
from authsvc.revocation.holders import Attached
from authsvc.revocation.orders import Order
from authsvc.revocation.wire import Confirmed, Connection, Hello, Hint

_log = logging.getLogger(__name__)


class RemoteHolders:
    """Attaches each worker that connects."""

    def __init__(self, follower: Follower, listener: PrivateListener) -> None:
        self._follower = follower
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    def __enter__(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._listener)
        for opening in self._opening:
            opening.cancel()

    def _accept(self) -> None:
        try:
            while (accepted := self._listener.accept()) is not None:
                opening = asyncio.ensure_future(_RemoteHolder(self._follower).open(accepted))
                self._opening.add(opening)
                opening.add_done_callback(self._opening.discard)
        except OSError as error:
            _log.error("a worker cannot attach now, and will try again: %s", error)


class _RemoteHolder:
    """The channel to one worker."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._attached: Attached | None = None
        self._connection = Connection(self._note, on_end=self._end)

    async def open(self, accepted: socket.socket) -> None:
        """Take a connection."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._connection, sock=accepted)

    def send(self, order: Order) -> None:
        """Send an order."""
        self._connection.send(order)

    def close(self) -> None:
        """Send nothing more."""
        self._connection.close()

    def _note(self, message: Any) -> None:
        match message:
            case Hello(pid, place, until):
                self._attached = self._follower.holders.attach(self, pid, place, until)
            case Confirmed(number) if self._attached is not None:
                self._follower.holders.confirm(self._attached, number)
            case Hint(entry):
                self._follower.hint(entry)

    def _end(self, error: Exception | None) -> None:
        if self._attached is None:
            return
        if error is None or isinstance(error, ConnectionError):
            self._follower.holders.detach(self._attached)
        else:
            # This process has closed the channel. The worker may have its lease until that is over.
            _log.error("the channel to worker process %d has failed: %s", self._attached.pid, error)
            self._attached.missed = True
