"""What a worker knows of the clients that answer from memory by its leave (R12 to R15)."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from math import inf
from typing import NamedTuple
from uuid import UUID

import pytest

from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.client_holder import ClientHolder, Member
from authsvc.revocation.client_holders import ClientHolders
from authsvc.revocation.orders import Apply, Drop, Forget, Grant, Start
from authsvc.verify.lease import Lease, certainly_over

LEASE, SUB_LEASE = 30.0, 5.0
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_MEMBER = Member("key_platform", "authsvc", "authsvc_live_platform", "192.0.2.1", "orders-1")


class Sent(NamedTuple):
    """A message to a client."""

    kind: str
    number: int
    what: object = None


class Stand:
    """A worker with a lease, and a stopwatch that the test moves."""

    def __init__(self, limit: int = 3) -> None:
        self.now = 1000.0
        self.lease = Lease(lambda: self.now)
        self.lease.renew(self.now + LEASE)
        self.lent: list[float] = []
        self.settled = 0
        self.clients = ClientHolders(
            self.lease,
            lambda: NOW,
            seconds=SUB_LEASE,
            limit=limit,
            note_lent=self.lent.append,
            stopwatch=lambda: self.now,
        )
        self.clients.on_settled(self._note_settled)
        self._seq = 0

    def _note_settled(self) -> None:
        self.settled += 1

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.clients.settle()

    def revoke(self, *prefixes: str, owner_id: str | None = None, kind: CredentialKind | None = None) -> int:
        """Have the worker apply an entry; return the order."""
        self._seq += 1
        entry = FeedEntry(Place(self._seq, UUID(int=self._seq)), prefixes, owner_id, kind)
        self.clients.pass_on(Apply([entry], entry.place))
        return self.clients.mark

    def is_settled(self, order: int) -> bool:
        return self.clients.settled_mark >= order


class Client:
    """A client, which confirms when the test says so."""

    def __init__(self, stand: Stand, member: Member = _MEMBER, capacity: int = 10) -> None:
        self.sent: list[Sent] = []
        self.is_closed = False
        self._stand, self._asked = stand, 0
        self.holder: ClientHolder = stand.clients.join(self, member, capacity)

    def grant(self, number: int, seconds: float, now: datetime) -> None:
        assert now == NOW
        assert self._stand.lent[-1] >= self._stand.now + seconds  # it was noted before it was sent
        self.sent.append(Sent("grant", number, seconds))

    def forget(
        self, number: int, prefixes: Iterable[str], owner_id: str, kind: CredentialKind | None
    ) -> None:
        self.sent.append(Sent("forget", number, (sorted(prefixes), owner_id, kind)))

    def forget_all(self, number: int) -> None:
        self.sent.append(Sent("forget", number, "everything"))

    def end(self, number: int, reason: str) -> None:
        self.sent.append(Sent("end", number, reason))

    def close(self) -> None:
        self.is_closed = True

    def hold(self, prefix: str, owner_id: str = "acme", kind: CredentialKind = CredentialKind.KEY) -> bool:
        return self._stand.clients.hold(
            self.holder, prefix, Credential(f"id_{prefix}", owner_id, (), None, None, {}, kind)
        )

    def renew(self) -> float:
        """Ask for a sub-lease; return its length, 0 if there is none yet."""
        self._asked += 1
        self._stand.clients.renew(self.holder, self._asked)
        return self.granted

    @property
    def granted(self) -> float:
        last = self.sent[-1] if self.sent else Sent("", 0)
        assert isinstance(last.what, float) or last.kind != "grant"
        return last.what if last == Sent("grant", self._asked, last.what) else 0  # type: ignore[return-value]

    def confirm(self) -> None:
        """Confirm everything."""
        numbers = [sent.number for sent in self.sent if sent.kind in ("forget", "end")]
        self._stand.clients.confirm(self.holder, max(numbers, default=0))


def holding(stand: Stand, *prefixes: str) -> Client:
    """Return a client that holds these keys, and has a sub-lease."""
    client = Client(stand)
    for prefix in prefixes:
        assert client.hold(prefix)
    assert client.renew() == SUB_LEASE
    return client


async def test_nobody_is_waited_for_without_clients() -> None:
    stand = Stand()
    assert stand.is_settled(stand.revoke("a"))


async def test_a_change_waits_for_the_clients_that_hold_the_key() -> None:
    """Only these are told."""
    stand = Stand()
    one, other = holding(stand, "a", "b"), holding(stand, "b")
    order = stand.revoke("a", "c")
    assert one.sent[-1] == Sent("forget", 1, (["a"], "", None))
    assert [sent.kind for sent in other.sent] == ["grant"]
    assert not stand.is_settled(order)
    assert stand.is_settled(order - 1)
    before = stand.settled
    one.confirm()
    assert stand.is_settled(order)
    assert stand.settled > before
    assert stand.is_settled(stand.revoke("a"))  # it does not hold it any more


async def test_a_change_waits_for_all_clients_that_hold_the_key() -> None:
    """Not only for the first that confirms; each order waits for its own."""
    stand = Stand()
    one, other, third = holding(stand, "a"), holding(stand, "a"), holding(stand, "b")
    first, second = stand.revoke("a"), stand.revoke("b")
    third.confirm()
    one.confirm()
    assert not stand.is_settled(first)
    one.confirm()  # says nothing new
    assert not stand.is_settled(first)
    other.confirm()
    assert stand.is_settled(second)


async def test_an_earlier_change_is_settled_before_a_later_one() -> None:
    stand = Stand()
    one, other = holding(stand, "a"), holding(stand, "b")
    first, second = stand.revoke("a"), stand.revoke("b")
    assert not stand.is_settled(first)
    one.confirm()
    assert stand.is_settled(first)
    assert not stand.is_settled(second)
    other.confirm()
    assert stand.is_settled(second)


async def test_a_client_that_has_confirmed_a_part() -> None:
    stand = Stand()
    client = holding(stand, "a", "b")
    first, second = stand.revoke("a"), stand.revoke("b")
    stand.clients.confirm(client.holder, 1)
    assert stand.is_settled(first)
    assert not stand.is_settled(second)
    client.confirm()
    assert stand.is_settled(second)


async def test_the_end_of_a_sub_lease_is_noticed_without_a_word_from_anybody() -> None:
    """The worker looks by itself: whoever waits for the change is told."""
    stand, settled = Stand(), asyncio.Event()
    holding(stand, "a")
    order = stand.revoke("a")

    def look() -> None:
        if stand.is_settled(order):
            settled.set()

    stand.clients.on_settled(look)
    stand.now += certainly_over(SUB_LEASE)
    async with asyncio.timeout(20):
        await settled.wait()


async def test_a_change_of_a_whole_owner() -> None:
    """Or of one kind of its credentials."""
    stand = Stand()
    client = holding(stand, "a")
    client.hold("s", kind=CredentialKind.SESSION)
    client.hold("other", owner_id="globex")
    assert not stand.is_settled(stand.revoke(owner_id="acme", kind=CredentialKind.SESSION))
    assert client.sent[-1] == Sent("forget", 1, ([], "acme", CredentialKind.SESSION))
    assert not stand.is_settled(stand.revoke(owner_id="acme"))
    assert client.sent[-1] == Sent("forget", 2, ([], "acme", None))
    assert len(client.holder.holdings) == 1
    client.confirm()
    assert stand.is_settled(stand.revoke(owner_id="acme"))


async def test_a_hint_is_passed_on_at_once() -> None:
    stand = Stand()
    client = holding(stand, "a")
    stand.clients.pass_on(Forget(FeedEntry(Place(7, UUID(int=7)), ["a"], None)))
    assert client.sent[-1].kind == "forget"
    assert not stand.is_settled(stand.clients.mark)


async def test_other_tag_keys_end_all_that_is_held() -> None:
    """Nobody knows which strings were issued under the old ones."""
    stand = Stand()
    client = holding(stand, "a")
    entry = FeedEntry(Place(7, UUID(int=7)), (), None, tag_keys=AcceptedTagKeys((b"k" * 32,)))
    stand.clients.pass_on(Apply([entry], entry.place))
    assert client.sent[-1] == Sent("forget", 1, "everything")
    assert len(client.holder.holdings) == 0


async def test_a_client_that_does_not_confirm_is_waited_for_until_its_sub_lease_is_over() -> None:
    """Certainly: with the drift of clocks and a margin, from when it was granted. Then it is cut off."""
    stand = Stand()
    client = holding(stand, "a")
    order = stand.revoke("a")
    stand.pass_time(certainly_over(SUB_LEASE) - 0.01)
    assert not stand.is_settled(order)
    assert [client.is_closed] == [False]
    stand.pass_time(0.02)
    assert stand.is_settled(order)
    assert client.is_closed
    assert stand.clients.late.count == 1


async def test_a_client_that_has_not_confirmed_gets_no_sub_lease() -> None:
    """It gets the one that it asked for when it has confirmed."""
    stand = Stand()
    client = holding(stand, "a", "b")
    stand.revoke("a")
    assert client.renew() == 0
    stand.revoke("b")
    client.confirm()
    assert client.granted == SUB_LEASE


async def test_a_stream_that_has_ended_frees_nobody() -> None:
    """The client may answer until its sub-lease is over, also what is changed after the end of the stream."""
    stand = Stand()
    client = holding(stand, "a", "b")
    before = stand.revoke("a")
    stand.clients.lost(client.holder)
    after = stand.revoke("b")
    assert not stand.is_settled(stand.revoke("c"))  # orders are settled in their order
    stand.pass_time(certainly_over(SUB_LEASE) - 0.01)
    assert not stand.is_settled(before)
    assert not stand.is_settled(after)
    stand.pass_time(0.02)
    assert stand.is_settled(after)
    assert not stand.clients.clients


async def test_a_client_that_leaves_is_not_waited_for() -> None:
    """It has given up its sub-lease."""
    stand = Stand()
    client = holding(stand, "a")
    order = stand.revoke("a")
    stand.clients.leave(client.holder)
    assert stand.is_settled(order)
    assert client.is_closed


async def test_a_client_without_a_sub_lease_is_not_waited_for() -> None:
    """It cannot answer; it gets none before it has confirmed."""
    stand = Stand()
    client = Client(stand)
    assert client.hold("a")
    assert stand.is_settled(stand.revoke("a"))
    assert client.renew() == 0
    client.confirm()
    assert client.granted == SUB_LEASE


@pytest.mark.parametrize("order", [Start(Place(0, UUID(int=0)), None), Drop("lost")], ids=["start", "drop"])
async def test_what_ends_the_memory_of_the_worker_ends_that_of_its_clients(order: Start | Drop) -> None:
    """The worker confirms it when they have."""
    stand = Stand()
    client = holding(stand, "a")
    if isinstance(order, Drop):
        stand.clients.end(order.reason)
    stand.clients.pass_on(order)
    assert client.sent[-1].kind == "end"
    assert not stand.is_settled(stand.clients.mark)
    assert not client.hold("b")
    client.confirm()
    assert stand.is_settled(stand.clients.mark)
    assert client.is_closed


async def test_a_sub_lease_ends_before_the_lease_of_the_worker() -> None:
    """Certainly, so that those who wait for the lease of the worker have waited for it."""
    stand = Stand()
    client = Client(stand)
    stand.now += LEASE - 2
    seconds = client.renew()
    assert 0 < certainly_over(seconds) == pytest.approx(2)
    assert client.holder.until <= stand.lease.until + 1e-6
    stand.now += 3
    assert client.renew() == 0
    stand.lease.renew(stand.now + LEASE)
    stand.clients.pass_on(Grant(stand.now + LEASE, NOW, stand.now, stand.now))
    assert client.granted == SUB_LEASE


async def test_until_when_clients_may_answer_is_noted_before_they_may() -> None:
    """Where it outlives this worker; `Client.grant` looks."""
    stand = Stand()
    holding(stand, "a")
    assert stand.lent == [stand.now + certainly_over(SUB_LEASE)]


async def test_a_client_is_sent_no_more_than_it_may_hold() -> None:
    """Until it has released some. What it holds already may be sent again."""
    stand = Stand()
    client = Client(stand, capacity=2)
    assert [client.hold(prefix) for prefix in ("a", "b", "a", "c")] == [True, True, True, False]
    client.holder.holdings.release(["a"])
    assert client.hold("c")
    assert len(client.holder.holdings) == 2


async def test_uses_of_what_it_held_a_moment_ago_are_known() -> None:
    """Until it has reported twice since: reports come before each renewal."""
    stand = Stand()
    client = holding(stand, "a", "b", "c")
    stand.revoke("a")
    client.holder.holdings.release(["b"])
    holdings = client.holder.holdings
    for is_known in (True, True, False):
        assert [holdings.find(f"id_{each}") is not None for each in "abc"] == [is_known, is_known, True]
        client.renew()
    client.holder.end("", 0, 0)
    assert holdings.find("id_c") is not None


async def test_what_a_client_has_released_is_not_waited_for() -> None:
    stand = Stand()
    client = holding(stand, "a")
    client.holder.holdings.release(["a", "unknown"])
    assert stand.is_settled(stand.revoke("a"))
    assert stand.is_settled(stand.revoke(owner_id="acme"))


async def test_a_client_whose_own_credential_changes_is_ended() -> None:
    """It joins again, and is looked at anew."""
    stand = Stand()
    client = holding(stand, "a")
    order = stand.revoke(_MEMBER.key_prefix)
    assert client.sent[-1] == Sent("end", 1, "its own credential has changed")
    assert not stand.is_settled(order)
    client.confirm()
    assert stand.is_settled(order)


async def test_there_is_room_for_so_many() -> None:
    stand = Stand(limit=1)
    client = Client(stand)
    with pytest.raises(Overloaded) as refused:
        Client(stand)
    assert refused.value.reason == "HOLDER_LIMIT"
    stand.clients.leave(client.holder)
    Client(stand)


async def test_a_client_that_is_late_again_and_again_has_to_pause() -> None:
    """Others may follow meanwhile, and it may when some time has passed."""
    stand = Stand()
    for _ in range(3):
        client = holding(stand, "a")
        stand.revoke("a")
        stand.pass_time(certainly_over(SUB_LEASE) + 1)
        assert client.is_closed
    with pytest.raises(Overloaded) as refused:
        Client(stand)
    assert refused.value.reason == "HOLDER_LATE"
    assert refused.value.retry_after is not None
    for other in (_MEMBER._replace(address="192.0.2.2"), _MEMBER._replace(instance="orders-2")):
        stand.clients.leave(Client(stand, other).holder)
    stand.pass_time(refused.value.retry_after)
    Client(stand)


async def test_a_client_that_confirms_late_counts_once() -> None:
    """However much it has not confirmed, and however often it says so."""
    stand = Stand()
    client = holding(stand, "a", "b", "c")
    for prefix in "ab":
        stand.revoke(prefix)
    stand.pass_time(2)
    for number in (0, 0, 1, 2):
        stand.clients.confirm(client.holder, number)
    assert stand.clients.late.count == 1
    stand.revoke("c")
    client.confirm()
    assert stand.clients.late.count == 1


async def test_a_client_that_confirms_late_again_and_again_is_ended() -> None:
    """It need not have waited until its sub-lease was over."""
    stand = Stand()
    client = holding(stand, *"abc")
    for prefix in "abc":
        assert not client.is_closed
        client.renew()
        stand.revoke(prefix)
        stand.pass_time(1.5)
        client.confirm()
    assert client.sent[-1].kind == "end"
    client.confirm()
    assert client.is_closed
    with pytest.raises(Overloaded):
        Client(stand)


async def test_a_stop_ends_all() -> None:
    """Nobody joins any more; the worker waits for those who do not confirm."""
    stand = Stand()
    client = holding(stand, "a")
    await stand.clients.stop()
    assert client.sent[-1].kind == "end"
    assert client.renew() == 0
    with pytest.raises(Unavailable):
        Client(stand)
    assert stand.clients.settled_mark < inf
    client.confirm()
    await stand.clients.over()
    assert stand.clients.settled_mark == inf


async def test_a_client_without_a_sub_lease_is_not_late() -> None:
    """Nothing waits for it, so it may take its time; it gets none before it has confirmed."""
    stand = Stand()
    client = holding(stand, "a")
    stand.pass_time(certainly_over(SUB_LEASE) + 1)
    assert stand.is_settled(stand.revoke("a"))
    stand.pass_time(10)
    assert client.renew() == 0
    client.confirm()
    assert client.granted == SUB_LEASE
    assert stand.clients.late.count == 0


async def test_clients_that_are_gone_make_room() -> None:
    """They have asked for no sub-lease for a minute; their streams may hang."""
    stand = Stand(limit=2)
    gone, alive = holding(stand, "a"), holding(stand, "a")
    stand.pass_time(59)
    alive.renew()
    stand.pass_time(2)
    Client(stand)
    assert gone.sent[-1].kind == "end"
    assert gone.is_closed
    assert [alive.is_closed] == [False]
