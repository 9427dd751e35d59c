"""Answers that are not sent yet: their bytes by account, and for how long.

A transport keeps an answer until the client reads it. An account is an owner, an address for callers without
a credential, or a connection for callers of the platform, who act for all owners.

Bound: an account has at most `MAX_BYTES` of answers that are not sent, or one answer. A connection that
does not take an answer in `MAX_UNREAD_SECONDS` seconds is closed, which frees everything that is kept for it.
"""

from typing import Any

from authsvc.model.errors import Overloaded
from authsvc.verify.clock import Stopwatch

# Seconds that a client has to take an answer.
MAX_UNREAD_SECONDS = 10.0
# Bytes of answers of one account, and bytes that a call takes besides its answer.
MAX_BYTES = 16 * 1024 * 1024
CALL_BYTES = 32 * 1024


class Answers:
    """Counts answers from when a handler hands them over until gRPC has sent them."""

    def __init__(self, now: Stopwatch) -> None:
        self._now = now
        self._bytes: dict[str, int] = {}
        # By call, with peer, account, bytes and time; the one that waits longest comes first.
        self._unsent: dict[Any, tuple[str, str, int, float]] = {}
        #: How many calls were refused because their account has too many unsent bytes.
        self.refused = 0

    def of_another_port(self) -> "Answers":
        """Return those of another port. An account has one limit for both; each port knows its own peers."""
        other = Answers(self._now)
        other._bytes = self._bytes
        return other

    @property
    def unsent(self) -> int:
        """The bytes of all answers that are not sent."""
        return sum(self._bytes.values())

    def begin(self, call: Any, peer: str, account: str, size: int) -> None:
        """Count the answer of a call as not sent; `size` in bytes. May be called again."""
        self.end(call)
        size += CALL_BYTES
        self._unsent[call] = peer, account, size, self._now()
        self._bytes[account] = self._bytes.get(account, 0) + size

    def end(self, call: Any) -> None:
        """Count the answer of a call, if it has one, as sent or given up."""
        if (unsent := self._unsent.pop(call, None)) is None:
            return
        _, account, size, _ = unsent
        left = self._bytes.pop(account) - size
        if left:
            self._bytes[account] = left

    def check(self, account: str, size: int = 0) -> None:
        """Raise Overloaded (ANSWERS_UNREAD) when unread answers of an account leave no room for `size`."""
        unsent = self._bytes.get(account)
        if unsent is not None and unsent + size > MAX_BYTES:
            self.refused += 1
            raise Overloaded(
                f"{unsent} bytes of answers to you are unread (limit {MAX_BYTES}); read them, or request "
                "less at a time",
                reason="ANSWERS_UNREAD",
                retry_after=1,
            )

    def stalled(self) -> set[str]:
        """Return the peers, in the form of gRPC, that have not taken an answer in time."""
        late = self._now() - MAX_UNREAD_SECONDS
        peers = set()
        for peer, _, _, since in self._unsent.values():
            if since > late:
                break
            peers.add(peer)
        return peers
