"""A client that may answer from memory, as the worker that it follows knows it (R12 to R14).

Mechanism: a worker notes which credentials it has sent to the client, and what the client has not confirmed.
Everything is sent over one stream that keeps the order, so a change that is applied after a credential was
sent is sent after it. A client gets a sub-lease only when it has confirmed all that it was sent.

Bound: a client holds `capacity` credentials. Beyond that, it is sent none until it has released some.

Failure: the sub-lease of a client that does not confirm, or whose stream has ended, is not renewed. From
`until` on it is certainly over, whatever the client does.
"""

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from math import inf
from typing import NamedTuple, Protocol

from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.feed import FeedEntry
from authsvc.revocation.client_holdings import ClientHoldings


class ClientChannel(Protocol):
    """The way to a client. It keeps the order of what is sent, and does not block."""

    def grant(self, number: int, seconds: float, now: datetime) -> None:
        """Send a sub-lease of some seconds, and the time of the database."""

    def forget(
        self, number: int, prefixes: Iterable[str], owner_id: str, kind: CredentialKind | None
    ) -> None:
        """Have credentials forgotten: those of prefixes, and those of an owner if it is not ""."""

    def forget_all(self, number: int) -> None:
        """Have all credentials forgotten."""

    def end(self, number: int, reason: str) -> None:
        """Have the sub-lease and all credentials given up. Nothing is sent after that."""

    def close(self) -> None:
        """End the stream."""


class Member(NamedTuple):
    """Who follows: its credential, the owner and the prefix of that, its address, and its name for operators.

    `key_prefix` is "" for a caller that is identified by a certificate.
    """

    credential_id: str
    owner_id: str
    key_prefix: str
    address: str
    instance: str


class _Unconfirmed(NamedTuple):
    number: int
    # The order of the worker's follower that it belongs to, as `ClientHolders` counts them.
    mark: int
    since: float


class ClientHolder:
    """One client, for as long as its sub-lease may be held."""

    def __init__(self, channel: ClientChannel, member: Member, capacity: int, now: float) -> None:
        self.channel, self.member = channel, member
        #: When it has asked for a sub-lease last, or has joined.
        self.renewed = now
        #: When its sub-lease is certainly over, on our stopwatch.
        self.until = -inf
        #: The number of the sub-lease that it has asked for, and that was not granted yet.
        self.renewal: int | None = None
        #: Whether it was told to give up all, or has. Otherwise changes are of concern to it.
        self.has_ended = False
        #: Whether its stream has ended, so that it gets nothing any more, and confirms nothing.
        self.is_lost = False
        self.capacity = capacity
        #: What it holds.
        self.holdings = ClientHoldings()
        #: Whether it was late with what it has not confirmed, and that was noted.
        self.was_late = False
        self._unconfirmed: deque[_Unconfirmed] = deque()
        self._sent = 0

    # What it holds.

    def hold(self, prefix: str, credential: Credential) -> bool:
        """Note that it is sent this credential now; return False if it holds as many as it may."""
        if len(self.holdings) >= self.capacity and prefix not in self.holdings:
            return False
        self.holdings.add(prefix, credential)
        return True

    def forget(self, entry: FeedEntry, mark: int, now: float) -> None:
        """Have it forget what an entry names, as far as it holds that."""
        if self.member.key_prefix in entry.key_prefixes or self.member.owner_id == entry.owner_id:
            self.end("its own credential has changed", mark, now)
        elif entry.tag_keys is not None:
            # Strings under a former tag key are not valid any more, and nobody knows which ones they are.
            if len(self.holdings):
                self.holdings.clear()
                self.channel.forget_all(self._next(mark, now))
        elif (concerned := self.holdings.take(entry)) is not None:
            self.channel.forget(self._next(mark, now), *concerned)

    def end(self, reason: str, mark: int, now: float) -> None:
        """Have it give up its sub-lease and all that it holds; nothing is sent after that."""
        if not self.has_ended:
            self.has_ended, self.renewal = True, None
            self.holdings.clear()
            self.channel.end(self._next(mark, now), reason)

    # What it confirms.

    def _next(self, mark: int, now: float) -> int:
        self._sent += 1
        self._unconfirmed.append(_Unconfirmed(self._sent, mark, now))
        return self._sent

    def confirm(self, number: int) -> None:
        """Note that it has carried out everything up to a number."""
        while self._unconfirmed and self._unconfirmed[0].number <= number:
            self._unconfirmed.popleft()
        self.was_late &= bool(self._unconfirmed)
        if self.has_ended and not self._unconfirmed:
            self.until = -inf  # it has given up its sub-lease

    def leave(self) -> None:
        """Note that it has given up its sub-lease and its memory by itself."""
        self.has_ended, self.renewal, self.until = True, None, -inf
        self.holdings.clear()
        self._unconfirmed.clear()

    @property
    def is_settled(self) -> bool:
        """Whether it has confirmed all that it was sent."""
        return not self._unconfirmed

    @property
    def settled_mark(self) -> float:
        """The order up to which it has confirmed all that belongs to it."""
        return self._unconfirmed[0].mark - 1 if self._unconfirmed else inf

    @property
    def waited_since(self) -> float:
        """Since when it has not confirmed what it was sent, on our stopwatch; infinite if it has."""
        return self._unconfirmed[0].since if self._unconfirmed else inf

    @property
    def is_awaited(self) -> bool:
        """Whether its confirmation, or the end of its sub-lease, is awaited."""
        return bool(self._unconfirmed) or self.has_ended or self.is_lost

    @property
    def is_waited_for(self) -> bool:
        """Whether it held a sub-lease when it was sent what it has not confirmed."""
        return self.waited_since < self.until
