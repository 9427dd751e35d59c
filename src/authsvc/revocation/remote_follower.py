"""The follower of this replica in another process, as a worker sees it.

Mechanism: the worker connects to the follower, and says where it is in the feed. Orders are carried out as
they come; then the worker confirms them. When the channel ends, the follower has ended:
the worker keeps its memory, and its lease until that is over, and attaches to the next follower with its
place in the feed.

Failure: an order that cannot be carried out is a fault of this program. The worker gives up its lease and its
memory before it closes the channel, and attaches again.
"""

import asyncio
import logging
import os
from contextlib import suppress
from typing import Any

from authsvc.model.feed import FeedEntry
from authsvc.net.private_listener import PrivateListener
from authsvc.revocation.holder import Holder
from authsvc.revocation.wire import Confirmed, Connection, Hello, Hint

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.05


class RemoteFollower:
    """Keeps a holder attached to whichever process follows the feed."""

    def __init__(self, holder: Holder, listener: PrivateListener) -> None:
        self._holder = holder
        self._listener = listener
        self._connection: Connection | None = None
        self._number = 0
        holder.on_hint(self._hint)

    async def run(self) -> None:
        """Stay attached until cancelled; then give up the lease. Cancel it after the last answer."""
        while True:
            # Too many may be connecting at the same time.
            with suppress(OSError):
                await self._attach()
                _log.debug("the follower has ended; this worker attaches to the next one")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _attach(self) -> None:
        """Attach to the follower, and return when it has ended."""
        self._number, ended = 0, asyncio.Event()
        connection = Connection(self._obey, on_batch=self._confirm, on_end=lambda _: ended.set())
        try:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: connection, sock=self._listener.connect())
            connection.send(Hello(os.getpid(), self._holder.place, self._holder.lease.until))
            self._connection = connection
            await ended.wait()
        finally:
            self._connection = None
            if not connection.has_ended:
                # The follower takes the end of the channel to mean that this worker answers nothing more.
                self._holder.drop("this worker has stopped")
            connection.close()

    def _hint(self, entry: FeedEntry | None) -> None:
        if self._connection is not None:
            self._connection.send(Hint(entry))

    def _obey(self, order: Any) -> None:
        try:
            self._holder.obey(order)
        except Exception:
            self._holder.drop("an order of the follower could not be carried out")
            _log.exception("an order of the follower could not be carried out; this worker starts anew")
            raise
        self._number += 1

    def _confirm(self) -> None:
        if self._connection is not None:
            self._connection.send(Confirmed(self._number))
