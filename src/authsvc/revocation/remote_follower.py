"""The follower of this replica in another process, as a worker sees it.

Mechanism: the worker connects to the follower, and says where it is in the feed. Orders are carried out as
they come; then the worker confirms them. When the channel ends, the follower has ended:
the worker keeps its memory, and its lease until that is over, and attaches to the next follower with its
place in the feed.

Failure: an order that cannot be carried out, or a channel that fails here, is a fault of this process. The
worker gives up its lease and its memory before the channel is closed, and attaches again.
"""

import asyncio
import logging
import os
from typing import Any

from authsvc.model.feed import FeedEntry
from authsvc.net.private_listener import PrivateListener
from authsvc.revocation.carried_out import CarriedOut
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
        self._carried_out = CarriedOut(holder.clients)
        holder.on_hint(self._hint)
        holder.clients.on_settled(self._confirm)

    async def run(self) -> None:
        """Stay attached until cancelled; then give up the lease. Cancel it after the last answer."""
        while True:
            try:
                await self._attach()
                _log.debug("the follower has ended; this worker attaches to the next one")
            except OSError as error:
                _log.debug("this worker cannot attach to the follower yet: %s", error)
            except Exception:  # noqa: BLE001 - a fault must not end the attachment
                _log.exception("an unexpected error in the attachment to the follower")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _attach(self) -> None:
        """Attach to the follower, and return when it has ended."""
        self._number, ended = 0, asyncio.Event()
        self._carried_out = CarriedOut(self._holder.clients)

        def end(error: Exception | None) -> None:
            if error is not None and not isinstance(error, ConnectionError):
                # Not the follower has ended, but this process closes the channel. This comes before it does.
                self._holder.drop("the channel to the follower has failed")
            ended.set()

        connection = Connection(self._obey, on_batch=self._confirm, on_end=end)
        # May raise OSError, when too many are connecting.
        ours = self._listener.connect()
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
        try:
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
        self._carried_out.note(self._number)

    def _confirm(self) -> None:
        """Confirm what the clients of this worker have confirmed, too (R14)."""
        number = self._carried_out.take()
        if number and self._connection is not None:
            self._connection.send(Confirmed(number))
