"""Slots: how much is done at the database at a time, shared by owner.

Mechanism: some slots, of which each owner has a share. It may hold more while no other owner waits, but never
the last one that is free. Who finds none waits. When one is given back it goes to the next owner in turn
that has somebody waiting and less than its share; those of one owner are served as they came.

Bound: so many slots, so many of one owner waiting, and so long a wait.

Failure: who waits too long, or finds too many of the same owner waiting, is Overloaded, with nothing done.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.errors import Overloaded

_SETTING = "AUTHSVC_DATABASE_POOL_SIZE"


class Slots:
    """Slots of one kind, who holds them, and who waits for them."""

    def __init__(self, size: int, *, share: int | None = None, max_waiting: int = 1000) -> None:
        """Take how many there are, each owner's share (by default half), and how many of it may wait."""
        self.size = size
        self.share = max(1, size // 2) if share is None else share
        self.in_use = 0
        # How many gave up waiting, or could not even wait.
        self.refused = 0
        self._max_waiting = max_waiting
        self._held: Counter[str] = Counter()
        # Those who wait, by owner; the owner whose turn is next comes first.
        self._waiting: OrderedDict[str, dict[asyncio.Future[Slots], None]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def take(self, owner_id: str) -> bool:
        """Take a slot for an owner if there is one for it now."""
        # Nobody is passed by: while a slot is free, nobody waits who might have it.
        if not self._has_one_for(owner_id):
            return False
        self.in_use += 1
        self._held[owner_id] += 1
        return True

    def give_back(self, owner_id: str) -> None:
        """Give back a slot of an owner; it goes to whoever is next."""
        self.in_use -= 1
        self._held[owner_id] -= 1
        if not self._held[owner_id]:
            del self._held[owner_id]
        self._grant()

    def has_room(self, owner_id: str) -> bool:
        """Say whether one more of this owner may wait."""
        return len(self._waiting.get(owner_id, ())) < self._max_waiting

    def join(self, owner_id: str, granted: "asyncio.Future[Slots]") -> None:
        """Wait for a slot, together with others: `granted` gets these slots when one of them was taken."""
        self._waiting.setdefault(owner_id, {})[granted] = None

    def leave(self, owner_id: str, granted: "asyncio.Future[Slots]") -> None:
        """Wait no longer."""
        self._forget(owner_id, granted)
        self._grant()  # Who is alone now may have more.

    def _forget(self, owner_id: str, granted: "asyncio.Future[Slots]") -> None:
        waiters = self._waiting.get(owner_id, {})
        waiters.pop(granted, None)
        if not waiters:
            self._waiting.pop(owner_id, None)

    def _grant(self) -> None:
        while (found := self._next()) is not None:
            owner_id, granted = found
            self._forget(owner_id, granted)
            if granted.done():  # It was given another slot, or went away.
                continue
            if owner_id in self._waiting:
                self._waiting.move_to_end(owner_id)
            self.take(owner_id)
            granted.set_result(self)

    def _next(self) -> "tuple[str, asyncio.Future[Slots]] | None":
        for owner_id, waiters in self._waiting.items():
            if self._has_one_for(owner_id):
                return owner_id, next(iter(waiters))
        return None

    def _has_one_for(self, owner_id: str) -> bool:
        free = self.size - self.in_use
        if self._held[owner_id] < self.share:
            return free > 0
        return free > 1 and self._waiting.keys() <= {owner_id}


@asynccontextmanager
async def slot(choices: Sequence[Slots], owner_id: str, *, patience: float) -> AsyncIterator[None]:
    """Hold a slot of the first choice that has one, or of any that has one later, within `patience` seconds.

    Raises Overloaded.
    """
    held = next((slots for slots in choices if slots.take(owner_id)), None)
    if held is None:
        held = await _wait(choices, owner_id, patience)
    try:
        yield
    finally:
        held.give_back(owner_id)


async def _wait(choices: Sequence[Slots], owner_id: str, patience: float) -> Slots:
    granted: asyncio.Future[Slots] = asyncio.get_running_loop().create_future()
    joined = [slots for slots in choices if slots.has_room(owner_id)]
    if not joined:
        choices[0].refused += 1
        raise Overloaded(
            f"too many calls of one owner wait for the database; retry. {_SETTING} sets how many",
            reason="DATABASE_QUEUE_FULL",
            retry_after=0.5,
            setting=_SETTING,
        )
    for slots in joined:
        slots.join(owner_id, granted)
    try:
        async with asyncio.timeout(patience):
            return await granted
    except BaseException as error:
        if granted.done() and not granted.cancelled():
            granted.result().give_back(owner_id)
        granted.cancel()
        if not isinstance(error, TimeoutError):
            raise
        choices[0].refused += 1
        raise Overloaded(
            f"other calls kept the database busy for {patience:g} s, so nothing was done; retry. "
            f"{_SETTING} sets how many go on at a time",
            reason="DATABASE_BUSY",
            retry_after=1,
            setting=_SETTING,
        ) from error
    finally:
        for slots in joined:
            slots.leave(owner_id, granted)


class DatabaseSlots:
    """How the connections of a pool are shared out to what callers ask for.

    A fifth of them is kept for single statements, one for lists, and one as a reserve for revocations; the
    rest is for changes of all kinds. Half of the reserve is the platform's alone. Of less than five
    connections nothing is kept, and lists share one with changes.
    """

    def __init__(self, size: int, *, max_waiting: int) -> None:
        """Take the number of connections, and how many calls of one owner may wait for each kind."""
        fifth = size // 5

        def slots(number: int, share: int | None = None) -> Slots:
            return Slots(number, share=share, max_waiting=max_waiting)

        self.changes = slots(size - 3 * fifth)
        self.lists = slots(max(1, fifth))
        self.reserve = slots(fifth - fifth // 2)
        self.platform_reserve = slots(fifth // 2, share=fifth // 2) if fifth > 1 else self.reserve

    def for_change(self, owner_id: str, *, revokes: bool) -> Sequence[Slots]:
        """Return the slots that a change of this owner may take, the first choice first."""
        if not revokes:
            return (self.changes,)
        return self.changes, self.platform_reserve if owner_id == PLATFORM_OWNER else self.reserve

    @property
    def kinds(self) -> dict[str, Slots]:
        """All slots, by what they are for."""
        return {
            "change": self.changes,
            "list": self.lists,
            "revocation": self.reserve,
            "platform_revocation": self.platform_reserve,
        }
