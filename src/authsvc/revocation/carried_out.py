"""Orders that a worker has carried out, and confirms when the clients that follow it have, too (R14)."""

from collections import deque

from authsvc.revocation.client_holders import ClientHolders


class CarriedOut:
    """The orders of one attachment to a follower, by their numbers there."""

    def __init__(self, clients: ClientHolders) -> None:
        self._clients = clients
        # Those that are not confirmed, with the mark of each.
        self._waiting: deque[tuple[int, int]] = deque()

    def note(self, number: int) -> None:
        """Note that an order was carried out here, and passed on to the clients."""
        self._waiting.append((number, self._clients.mark))

    def take(self) -> int:
        """Return up to which order everything may be confirmed now; 0 if that is no more than before."""
        if not self._waiting:
            return 0
        settled, number = self._clients.settled_mark, 0
        while self._waiting and self._waiting[0][1] <= settled:
            number, _ = self._waiting.popleft()
        return number
