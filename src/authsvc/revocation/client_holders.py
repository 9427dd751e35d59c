"""The clients that may answer from memory by the orders of this worker (R12 to R15).

Mechanism: what this worker is ordered to forget, it passes on to the clients that hold it, in the same step.
It confirms an order to its follower when each of them has confirmed, or cannot answer any more: because it
has given up its sub-lease, or because the sub-lease is certainly over. Orders are counted by `mark`.

Bound: `limit` clients, and `_MAX_HELD` credentials in all. A client that is out of reach delays a change by
what is left of its sub-lease, a fifth of it, and no more. One whose sub-lease had to be waited for several
times in a while may not follow for a while.

Failure: without a lease of its own, the worker grants none.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from math import inf

from authsvc.model.credential import Credential
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.feed import FeedEntry
from authsvc.revocation.client_holder import ClientChannel, ClientHolder, Member
from authsvc.revocation.late_clients import LATE_SECONDS, MAX_TIMES, LateClients
from authsvc.revocation.orders import Apply, Forget, Grant, Order, Start
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.verify.lease import Lease, certainly_over

_MAX_HELD = 1_000_000
# The clock of the event loop stops while the machine is suspended, so no wait is long.
_MAX_LOOK_SECONDS = 0.5
# Seconds between two looks at the end of this worker.
_OVER_SECONDS = 0.02
# A client that has asked for no sub-lease for so long makes room for others.
_IDLE_SECONDS = 60.0


class ClientHolders:
    """All clients that follow this worker."""

    def __init__(
        self,
        lease: Lease,
        clock: Callable[[], datetime],
        *,
        seconds: float,
        limit: int,
        note_lent: Callable[[float], object] = lambda _: None,
        stopwatch: Stopwatch = boottime,
    ) -> None:
        """`lease` is the one of this worker, `clock` the time of the database.

        `seconds` is the length of a sub-lease, `limit` the number of clients. `note_lent` writes down until
        when a client may answer, where it outlives this process (R15).
        """
        self._lease, self._clock, self._stopwatch = lease, clock, stopwatch
        self._seconds, self._limit, self._note_lent = seconds, limit, note_lent
        self._clients: list[ClientHolder] = []
        # Those of them whose confirmation, or whose end, is awaited.
        self._awaited: set[ClientHolder] = set()
        self._mark = 0
        self._is_stopping = False
        self._on_settled: Callable[[], object] = lambda: None
        self._look_at: asyncio.TimerHandle | None = None
        #: Those that changes had to wait for.
        self.late = LateClients(stopwatch)
        #: How many clients were not let follow, by the reason.
        self.refused = dict.fromkeys(("STOPPING", "HOLDER_LIMIT", "HOLDER_LATE"), 0)

    def on_settled(self, call: Callable[[], object]) -> None:
        """Have `call` called when clients have confirmed more orders."""
        self._on_settled = call

    @property
    def seconds(self) -> float:
        """The length of a sub-lease."""
        return self._seconds

    @property
    def capacity(self) -> int:
        """How many credentials each client may hold."""
        return _MAX_HELD // max(1, self._limit)

    # Clients.

    def join(self, channel: ClientChannel, member: Member, capacity: int) -> ClientHolder:
        """Let a client follow, without memory and sub-lease.

        Raises Unavailable (STOPPING), and Overloaded: HOLDER_LIMIT when there are too many, HOLDER_LATE when
        sub-leases of this one had to be waited for several times.
        """
        if self._is_stopping:
            raise Unavailable("this worker is stopping; follow another one", reason="STOPPING", retry_after=0)
        if len(self._clients) >= self._limit:
            self._end_idle()
        if len(self._clients) >= self._limit:
            raise Overloaded(
                f"too many clients hold credentials of this worker; the limit is {self._limit}. The operator "
                "sets it with AUTHSVC_HOLDERS",
                reason="HOLDER_LIMIT",
                retry_after=30,
            )
        if pause := self.late.pause(member):
            raise Overloaded(
                f"changes waited for this client {MAX_TIMES} times within ten minutes, because it was paused "
                "or out of reach; verify by VerifyKey and VerifySession, and follow again later",
                reason="HOLDER_LATE",
                retry_after=pause,
            )
        client = ClientHolder(channel, member, min(capacity, self.capacity), self._stopwatch())
        self._clients.append(client)
        return client

    def hold(self, client: ClientHolder, prefix: str, credential: Credential) -> bool:
        """Note that a client is sent a credential of this worker's memory now; return whether it may be.

        Must be called in one step with the look at the memory and the lease, and with the sending (R12).
        """
        return not (client.has_ended or client.is_lost) and client.hold(prefix, credential)

    def renew(self, client: ClientHolder, number: int) -> None:
        """Grant a client a sub-lease, now or as soon as it may have one."""
        if not client.has_ended:
            client.renewal, client.renewed = number, self._stopwatch()
            client.holdings.note_report()  # which is sent before that
            self._grant(client)

    def confirm(self, client: ClientHolder, number: int) -> None:
        """Note that a client has carried out everything up to a number."""
        if client.is_waited_for and self._stopwatch() >= client.waited_since + LATE_SECONDS:
            self._note_late(client)
        client.confirm(number)
        self._grant(client)
        if client.is_awaited:
            self.settle()
        else:
            self._awaited.discard(client)
            self._on_settled()

    def leave(self, client: ClientHolder) -> None:
        """Note that a client has given up its sub-lease and its memory."""
        client.leave()
        self._await(client)
        self.settle()

    def lost(self, client: ClientHolder) -> None:
        """Note that the stream of a client has ended. It may answer until its sub-lease is over."""
        client.is_lost, client.renewal = True, None
        self._await(client)
        self.settle()

    def _grant(self, client: ClientHolder) -> None:
        """Grant what a client has asked for, if it may have it (R13)."""
        number, left = client.renewal, self._lease.left
        if number is None or not client.is_settled or not left or self._is_stopping:
            return
        client.renewal = None
        # Certainly over before our own lease ends, for which nobody adds a margin on this machine.
        seconds = min(self._seconds, left / certainly_over(1.0))
        client.until = max(client.until, self._stopwatch() + certainly_over(seconds))
        self._note_lent(client.until)  # before the client can know
        client.channel.grant(number, seconds, self._clock())

    # Orders.

    def pass_on(self, order: Order) -> None:
        """Have the clients do what this worker was ordered to do (R14)."""
        self._mark += 1
        match order:
            case Start():
                self.end("the worker starts anew")
            case Apply(entries, _):
                for entry in entries:
                    self._forget(entry)
            case Forget(entry):
                self._forget(entry)
            case Grant():
                for client in self._clients:
                    self._grant(client)
            case _:
                pass

    def end(self, reason: str) -> None:
        """Have all clients give up their sub-leases and what they hold."""
        for client in self._clients:
            self._end(client, reason)
        self.settle()

    def end_one(self, client: ClientHolder, reason: str) -> None:
        """Have one client give up its sub-lease and what it holds."""
        self._end(client, reason)
        self.settle()

    def _end(self, client: ClientHolder, reason: str) -> None:
        client.end(reason, self._mark, self._stopwatch())
        self._await(client)

    def _forget(self, entry: FeedEntry) -> None:
        now = self._stopwatch()
        for client in self._clients:
            # One whose stream has ended may answer, too, until its sub-lease is over.
            if not client.has_ended:
                client.forget(entry, self._mark, now)
                if client.is_awaited:
                    self._await(client)

    @property
    def mark(self) -> int:
        """The number of the last order."""
        return self._mark

    @property
    def settled_mark(self) -> float:
        """Up to which order no client acts on the state before it."""
        now = self._stopwatch()
        return min((each.settled_mark for each in self._awaited if each.until > now), default=inf)

    # The end of sub-leases.

    def settle(self) -> None:
        """Forget clients that cannot answer any more; tell what is settled now."""
        now = self._stopwatch()
        for client in tuple(self._awaited):
            if client.until > now:
                continue
            if client.is_waited_for:
                self._note_late(client)
                client.end("its sub-lease was over before it had confirmed a change", self._mark, now)
            if client.has_ended or client.is_lost:
                self._remove(client)
        self._plan(now)
        self._on_settled()

    def _note_late(self, client: ClientHolder) -> None:
        """Note that a change has waited for a client; one that is late too often is to hold nothing more."""
        if not client.was_late:
            client.was_late = True
            self.late.note(client.member)
            if self.late.pause(client.member):
                self._end(client, "changes have waited for it too often")

    def _await(self, client: ClientHolder) -> None:
        """Look again when the sub-lease of a client ends, unless it has confirmed by then."""
        self._awaited.add(client)
        if self._look_at is None:
            self._plan(self._stopwatch())

    def _end_idle(self) -> None:
        """Have clients that seem to be gone make room for others."""
        idle = self._stopwatch() - _IDLE_SECONDS
        for client in self.clients:
            if client.renewed < idle:
                self.end_one(client, "it has asked for no sub-lease for a minute")

    def _remove(self, client: ClientHolder) -> None:
        self._awaited.discard(client)
        if client in self._clients:
            self._clients.remove(client)
            client.channel.close()

    def _plan(self, now: float) -> None:
        """Look again when the next sub-lease ends that is waited for, and every now and then until that."""
        if self._look_at is not None:
            self._look_at.cancel()
            self._look_at = None
        if self._awaited:
            due = min(each.until if each.until > now else inf for each in self._awaited)
            wait = min(due - now, _MAX_LOOK_SECONDS)
            self._look_at = asyncio.get_running_loop().call_later(wait, self.settle)

    # The end of this worker.

    async def stop(self) -> None:
        """Let nobody follow any more, and have all clients give up their sub-leases."""
        self._is_stopping = True
        self.end("this worker is stopping")

    async def over(self) -> None:
        """Wait until no client may answer from memory, and note that. Nobody may join any more."""
        while any(client.until > self._stopwatch() for client in self._clients):
            await asyncio.sleep(_OVER_SECONDS)
            self.settle()
        self._note_lent(-inf)

    @property
    def clients(self) -> tuple[ClientHolder, ...]:
        """Who follows, or may answer still."""
        return tuple(self._clients)
