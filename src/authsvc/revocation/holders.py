"""The holders of a follower: who answers from memory under its lease, and what each of them has confirmed.

Mechanism (R10): all holders get the same orders, over channels that keep their sequence, and confirm what
they have carried out. A holder gets the lease of a renewal when it has confirmed the entries up to that
renewal. An entry is applied by all when each has confirmed it, or the lease of that holder is over. Both
processes measure leases on the stopwatch of their machine.

Bound: a holder that does not confirm is waited for until its lease is over. Then it delays nothing, and gets
no lease until it has confirmed what it missed.

Failure: the end of a channel says that the process has ended or has given up its lease. If it had lent to
clients (R15), it is waited for until the last of their sub-leases is over. A holder that falls behind by
`_MAX_UNCONFIRMED` orders is detached when its lease is over; it attaches again and starts anew.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple, Protocol

from authsvc.model.feed import Place
from authsvc.revocation.orders import Advance, Apply, Drop, Forget, Grant, Order, Start
from authsvc.verify.clock import Stopwatch

_log = logging.getLogger(__name__)

_MAX_UNCONFIRMED = 100_000
_LOOK_SECONDS = 0.05
# More than the renewals in a lease.
_MAX_GRANTS = 16


class Channel(Protocol):
    """The way to a holder. It keeps the order of what is sent."""

    def send(self, order: Order) -> None:
        """Have an order carried out after all earlier ones. Does not block."""

    def close(self) -> None:
        """Send nothing more."""


class _Unconfirmed(NamedTuple):
    number: int
    seq: int | None  # what is applied when it is confirmed
    ends_lease: bool


@dataclass(eq=False)
class Attached:
    """A holder as its follower knows it.

    `until` is when its lease ends, on the stopwatch; `seq` is the last entry that it has confirmed, or -1.
    """

    channel: Channel
    pid: int
    place: Place | None
    until: float
    seq: int = -1
    # Whether orders were left out, because it was too far behind.
    missed: bool = False
    _sent: int = 0
    _unconfirmed: deque[_Unconfirmed] = field(default_factory=deque)

    @property
    def settled(self) -> bool:
        """Whether it has carried out everything that a change may wait for."""
        return self.seq >= 0 and not self._unconfirmed and not self.missed

    @property
    def is_far_behind(self) -> bool:
        """Whether it is not worth to send it more."""
        return len(self._unconfirmed) > _MAX_UNCONFIRMED

    def send(self, order: Order) -> None:
        """Send an order, and remember what its confirmation will say."""
        self._sent += 1
        match order:
            case Start(place):
                # What it has not confirmed yet is of another history; the next confirmation covers it.
                ends_lease = any(each.ends_lease for each in self._unconfirmed)
                self._unconfirmed.clear()
                self.seq = -1
                self._expect(place.seq, ends_lease=ends_lease)
            case Apply(_, place):
                self._expect(place.seq)
            case Forget():
                self._expect(None)
            case Drop():
                self._unconfirmed.clear()
                self.seq = -1
                self._expect(None, ends_lease=True)
            case Advance(place) if self._unconfirmed:
                self._expect(place.seq)
            case Advance(place):
                self.seq = place.seq  # It has forgotten the entry, and has confirmed that.
            case Grant(until):
                self.until = until
        self.channel.send(order)

    def _expect(self, seq: int | None, *, ends_lease: bool = False) -> None:
        self._unconfirmed.append(_Unconfirmed(self._sent, seq, ends_lease))

    def confirm(self, number: int) -> None:
        """Note that it has carried out the first `number` orders."""
        while self._unconfirmed and self._unconfirmed[0].number <= number:
            _, seq, ends_lease = self._unconfirmed.popleft()
            if seq is not None:
                self.seq = seq
            if ends_lease:
                self.until = -inf


class Holders:
    """All holders of one follower."""

    def __init__(
        self,
        stopwatch: Stopwatch,
        on_change: Callable[[], object],
        lent_until: Callable[[int], float] = lambda _: -inf,
    ) -> None:
        """`on_change` is called when there is something for the follower to do.

        `lent_until` returns until when clients of a process that has ended may answer.
        """
        self._stopwatch = stopwatch
        self._on_change = on_change
        self._lent_until = lent_until
        self._newcomers: deque[Attached] = deque()
        self._attached: list[Attached] = []
        # Holders that have ended, and whose clients may answer.
        self._orphaned: list[Attached] = []
        # The last grants, each with the entry up to which a holder has to have confirmed.
        self._grants: deque[tuple[Grant, int]] = deque(maxlen=_MAX_GRANTS)

    def attach(self, channel: Channel, pid: int, place: Place | None = None, until: float = -inf) -> Attached:
        """Let a process hold leases. It may have memory up to `place`, and a lease until `until`."""
        newcomer = Attached(channel, pid, place, until)
        self._newcomers.append(newcomer)
        self._on_change()
        return newcomer

    def detach(self, holder: Attached) -> None:
        """Forget a holder whose process has ended, or which has given up its lease.

        Its clients may answer for a while (R15), though no longer than it could itself.
        """
        for holders in (self._newcomers, self._attached):
            if holder in holders:
                holders.remove(holder)
                holder.until = min(holder.until, self._lent_until(holder.pid))
                if holder.until > self._stopwatch():
                    holder.missed = True
                    self._orphaned.append(holder)
        self._on_change()

    def confirm(self, holder: Attached, number: int) -> None:
        """Note that a holder has carried out the first `number` orders that it got."""
        before = holder.seq, holder.settled
        holder.confirm(number)
        if before != (holder.seq, holder.settled):
            self._grant_to(holder)
            self._on_change()

    @property
    def newcomer(self) -> Attached | None:
        """The next holder to admit."""
        return self._newcomers[0] if self._newcomers else None

    def admit(self, newcomer: Attached, orders: Sequence[Order]) -> None:
        """Let a newcomer have all orders from now on, after these, which bring it where the others are."""
        if newcomer not in self._newcomers:
            return  # It has gone meanwhile.
        self._newcomers.remove(newcomer)
        self._attached.append(newcomer)
        for order in orders:
            newcomer.send(order)

    def send(self, order: Order) -> None:
        """Send an order to all."""
        for holder in tuple(self._attached):
            if holder.is_far_behind:
                holder.missed = True
            if not holder.missed:
                try:
                    holder.send(order)
                except Exception:  # noqa: BLE001 - the others have to get it all the same
                    _log.exception("an order could not be sent to process %d", holder.pid)
                    holder.missed = True
        self._close_missed()

    def grant(self, grant: Grant, seq: int) -> None:
        """Give a lease to each as soon as it has confirmed the entries up to `seq`."""
        self._grants.append((grant, seq))
        for holder in tuple(self._attached):
            self._grant_to(holder)
        self._close_missed()

    def withdraw(self) -> None:
        """Give the last leases to nobody any more."""
        self._grants.clear()

    def confirmed_seq(self, place: Place) -> int:
        """Return up to which entry nobody acts on the state before it; all were told up to `place`."""
        now = self._stopwatch()
        return min([place.seq, *(each.seq for each in self._known() if each.until > now)])

    @property
    def all_settled(self) -> bool:
        """Whether everybody who has a lease has carried out all orders."""
        now = self._stopwatch()
        return all(each.settled for each in self._known() if each.until > now)

    @property
    def next_end(self) -> float:
        """When the next lease ends of one who has not confirmed; infinite if all have."""
        now = self._stopwatch()
        return min(
            (each.until for each in self._known() if not each.settled and each.until > now), default=inf
        )

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return sorted(each.pid for each in self._attached)

    @property
    def unconfirmed_pids(self) -> list[int]:
        """The processes that are waited for."""
        now = self._stopwatch()
        return sorted(each.pid for each in self._known() if not each.settled and each.until > now)

    def settled_pids(self) -> set[int]:
        """Return the processes that have carried out all orders since they were admitted."""
        return {each.pid for each in self._attached if each.settled}

    async def emptied(self) -> None:
        """Wait until all holders have gone, and no clients of theirs may answer."""
        while any(True for _ in self._known()):
            await asyncio.sleep(_LOOK_SECONDS)
            self._close_missed()

    def _close_missed(self) -> None:
        """Detach those to whom orders were not sent, when their leases are over: they start anew."""
        now = self._stopwatch()
        for holder in tuple(self._attached):
            if holder.missed and holder.until <= now:
                holder.channel.close()
                self.detach(holder)
        self._orphaned = [holder for holder in self._orphaned if holder.until > now]

    def _known(self) -> Iterator[Attached]:
        # A newcomer may have a lease from an earlier follower.
        yield from self._newcomers
        yield from self._attached
        yield from self._orphaned

    def _grant_to(self, holder: Attached) -> None:
        if holder.missed or holder not in self._attached:
            return
        # One whose clients confirm late may be some renewals behind, and gets an earlier one.
        for grant, seq in reversed(self._grants):
            if holder.seq >= seq:
                if grant.until > holder.until:
                    holder.send(grant)
                return
