"""The workers of this replica, in other processes, as their follower sees them.

Failure: a channel that ends says that its worker has ended, or has given up its lease before it closed it.
"""

import asyncio
import logging
from typing import Any

from authsvc.net.handover import Handover
from authsvc.revocation.follower import Follower
from authsvc.revocation.holders import Attached
from authsvc.revocation.orders import Order
from authsvc.revocation.wire import Confirmed, Connection, Hello, Hint, decode

_log = logging.getLogger(__name__)


class RemoteHolders:
    """Attaches each worker that hands over a channel."""

    def __init__(self, follower: Follower, handover: Handover) -> None:
        self._follower = follower
        self._handover = handover
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()

    def __enter__(self) -> None:
        self._loop.add_reader(self._handover.receiver, self._receive)

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._handover.receiver)
        for opening in self._opening:
            opening.cancel()

    def _receive(self) -> None:
        while (received := self._handover.receive()) is not None:
            handed, text = received
            opening = asyncio.ensure_future(_RemoteHolder(self._follower, decode(text)).open(handed))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)


class _RemoteHolder:
    """The channel to one worker."""

    def __init__(self, follower: Follower, hello: Hello) -> None:
        self._follower = follower
        self._hello = hello
        self._attached: Attached | None = None
        self._connection = Connection(self._note, on_end=self._end)

    async def open(self, handed: Any) -> None:
        """Attach the worker at the other end of a socket."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._connection, sock=handed)
        if not self._connection.has_ended:
            pid, place, until = self._hello
            self._attached = self._follower.holders.attach(self, pid, place, until)

    def send(self, order: Order) -> None:
        """Send an order."""
        self._connection.send(order)

    def close(self) -> None:
        """Send nothing more."""
        self._connection.close()

    def _note(self, answer: Any) -> None:
        match answer:
            case Confirmed(number) if self._attached is not None:
                self._follower.holders.confirm(self._attached, number)
            case Hint(entry):
                self._follower.hint(entry)

    def _end(self) -> None:
        if self._attached is not None:
            self._follower.holders.detach(self._attached)
