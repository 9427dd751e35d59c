"""The way to the holder in the process of its own follower."""

import os

from authsvc.revocation.holder import Holder
from authsvc.revocation.holders import Attached, Holders
from authsvc.revocation.orders import Order


class LocalChannel:
    """Has each order carried out at once."""

    def __init__(self, holder: Holder, holders: Holders) -> None:
        self._holder = holder
        self._holders = holders
        self._sent = 0
        self._attached: Attached = holders.attach(self, os.getpid())

    def send(self, order: Order) -> None:
        """Carry out an order."""
        self._sent += 1
        self._holder.obey(order)
        self._holders.confirm(self._attached, self._sent)

    def close(self) -> None:
        """Do nothing: the holder is here as long as its follower."""
