"""The way to the holder in the process of its own follower."""

import logging
import os

from authsvc.revocation.carried_out import CarriedOut
from authsvc.revocation.holder import Holder
from authsvc.revocation.holders import Attached, Holders
from authsvc.revocation.orders import Order

_log = logging.getLogger(__name__)


class LocalChannel:
    """Has each order carried out at once, and confirms it when the clients of this process have confirmed."""

    def __init__(self, holder: Holder, holders: Holders) -> None:
        self._holder = holder
        self._holders = holders
        holder.clients.on_settled(self._confirm)
        self._attach()

    def send(self, order: Order) -> None:
        """Carry out an order. After one that fails, the holder starts anew."""
        self._sent += 1
        try:
            self._holder.obey(order)
        except Exception:  # noqa: BLE001 - nobody else may miss it
            self._holder.drop("an order of the follower could not be carried out")
            _log.exception("an order of the follower could not be carried out; this worker starts anew")
            self._holders.detach(self._attached)
            self._attach()
        else:
            self._carried_out.note(self._sent)
            self._confirm()

    def _confirm(self) -> None:
        if number := self._carried_out.take():
            self._holders.confirm(self._attached, number)

    def _attach(self) -> None:
        self._sent = 0
        self._carried_out = CarriedOut(self._holder.clients)
        self._attached: Attached = self._holders.attach(self, os.getpid())

    def close(self) -> None:
        """Do nothing: the holder is here as long as its follower."""
