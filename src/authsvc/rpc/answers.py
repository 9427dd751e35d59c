"""The answers that are not sent yet: their bytes by account, and for how long.

gRPC keeps an answer until the client lets it be sent. An account is an owner, an address for callers without
a credential, or a connection for the platform's callers, who act for all owners.

Bounds: an account has so many bytes of answers that are not sent, or one answer. A connection that takes no
answer in time is closed, and with it all that is kept for it.
"""

from typing import Any

from authsvc.model.errors import Overloaded
from authsvc.verify.clock import Stopwatch

# Seconds that a client has to let an answer be sent.
IN_TIME = 10.0
# Bytes of one account, and what a call takes besides its answer.
MAX_BYTES = 16 * 1024 * 1024
CALL_BYTES = 32 * 1024


class Answers:
    """Counts answers from when a handler hands them over until gRPC has sent them."""

    def __init__(self, now: Stopwatch) -> None:
        self._now = now
        self._bytes: dict[str, int] = {}
        # Of each call; the one that waits longest comes first.
        self._unsent: dict[Any, tuple[str, str, int, float]] = {}
        # How many calls were refused for want of room.
        self.refused = 0

    @property
    def unsent(self) -> int:
        """Bytes of all answers that are not sent."""
        return sum(self._bytes.values())

    def begin(self, call: Any, peer: str, account: str, size: int) -> None:
        """Count the answer of a call as not sent; `size` in bytes."""
        size += CALL_BYTES
        self._unsent[call] = peer, account, size, self._now()
        self._bytes[account] = self._bytes.get(account, 0) + size

    def end(self, call: Any) -> None:
        """Count the answer of a call as sent, or as never to be sent, if there is one."""
        if (unsent := self._unsent.pop(call, None)) is None:
            return
        _, account, size, _ = unsent
        left = self._bytes.pop(account) - size
        if left:
            self._bytes[account] = left

    def check(self, account: str, size: int = 0) -> None:
        """Raise Overloaded when an account has answers that it does not read, and no room for `size` more."""
        unsent = self._bytes.get(account)
        if unsent is not None and unsent + size > MAX_BYTES:
            self.refused += 1
            raise Overloaded(
                f"{unsent} bytes of answers to you are not read yet, and there is room for {MAX_BYTES}; "
                "read them, or ask for less at a time",
                reason="ANSWERS_UNREAD",
                retry_after=1,
            )

    def stalled(self) -> set[str]:
        """Return the peers, as gRPC calls them, that have not taken an answer in time."""
        late = self._now() - IN_TIME
        peers = set()
        for peer, _, _, since in self._unsent.values():
            if since > late:
                break
            peers.add(peer)
        return peers
