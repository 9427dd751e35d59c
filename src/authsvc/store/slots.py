"""Slots: a limit on concurrent work at the database, shared fairly between owners.

Mechanism: each owner has a share of the slots. It may hold more while no other owner waits, but never the
last free one. A caller that finds no slot waits. A slot that is released goes to the next owner in turn that
waits and has less than its share. The callers of one owner are served in order.

Bound: the number of slots, the number of waiting callers of each owner, and the time of a wait.

Failure: a caller that waits too long, or finds too many callers of its owner waiting, gets Overloaded.
Nothing was done then.
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
        """`share` is that of each owner, by default half; `max_waiting` is for each owner, too."""
        self.size = size
        self.share = max(1, size // 2) if share is None else share
        self.in_use = 0
        # The number of callers that got no slot in time, or were not allowed to wait.
        self.refused = 0
        self._max_waiting = max_waiting
        self._held: Counter[str] = Counter()
        # The waiting callers by owner, in the order in which owners are served.
        self._waiting: OrderedDict[str, dict[asyncio.Future[Slots], None]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """The number of waiting callers."""
        return sum(map(len, self._waiting.values()))

    def take(self, owner_id: str) -> bool:
        """Take a slot for an owner if it may have one now; return whether it did."""
        # This is fair to waiting callers: while a slot is free, none of them may have it.
        if not self._has_one_for(owner_id):
            return False
        self.in_use += 1
        self._held[owner_id] += 1
        return True

    def give_back(self, owner_id: str) -> None:
        """Release a slot of an owner; it goes to the next waiting caller."""
        self.in_use -= 1
        self._held[owner_id] -= 1
        if not self._held[owner_id]:
            del self._held[owner_id]
        self._grant()

    def has_room(self, owner_id: str) -> bool:
        """Return whether one more caller of this owner may wait."""
        return len(self._waiting.get(owner_id, ())) < self._max_waiting

    def join(self, owner_id: str, granted: "asyncio.Future[Slots]") -> None:
        """Start to wait for a slot. `granted` gets this object as its result when a slot was taken."""
        self._waiting.setdefault(owner_id, {})[granted] = None

    def leave(self, owner_id: str, granted: "asyncio.Future[Slots]") -> None:
        """Stop waiting."""
        self._forget(owner_id, granted)
        self._grant()  # The remaining owner may now exceed its share.

    def _forget(self, owner_id: str, granted: "asyncio.Future[Slots]") -> None:
        waiters = self._waiting.get(owner_id, {})
        waiters.pop(granted, None)
        if not waiters:
            self._waiting.pop(owner_id, None)

    def _grant(self) -> None:
        while (found := self._next()) is not None:
            owner_id, granted = found
            self._forget(owner_id, granted)
            if granted.done():  # It has a slot of another kind, or its caller has gone.
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
async def slot(choices: Sequence[Slots], owner_id: str, *, max_wait: float) -> AsyncIterator[None]:
    """Hold a slot of the first choice that has one free, or else of any that has one later.

    Raises Overloaded when there is none within `max_wait` seconds, or when too many callers of this owner
    wait.
    """
    held = next((slots for slots in choices if slots.take(owner_id)), None)
    if held is None:
        held = await _wait(choices, owner_id, max_wait)
    try:
        yield
    finally:
        held.give_back(owner_id)


async def _wait(choices: Sequence[Slots], owner_id: str, max_wait: float) -> Slots:
    granted: asyncio.Future[Slots] = asyncio.get_running_loop().create_future()
    joined = [slots for slots in choices if slots.has_room(owner_id)]
    if not joined:
        choices[0].refused += 1
        raise Overloaded(
            f"too many calls of this owner wait for the database; retry. {_SETTING} sets the limit",
            reason="DATABASE_QUEUE_FULL",
            retry_after=0.5,
            setting=_SETTING,
        )
    for slots in joined:
        slots.join(owner_id, granted)
    try:
        async with asyncio.timeout(max_wait):
            return await granted
    except BaseException as error:
        if granted.done() and not granted.cancelled():
            granted.result().give_back(owner_id)
        granted.cancel()
        if not isinstance(error, TimeoutError):
            raise
        choices[0].refused += 1
        raise Overloaded(
            f"other calls kept the database busy for {max_wait:g} s, so nothing was done; retry. "
            f"{_SETTING} sets how many run concurrently",
            reason="DATABASE_BUSY",
            retry_after=1,
            setting=_SETTING,
        ) from error
    finally:
        for slots in joined:
            slots.leave(owner_id, granted)


class DatabaseSlots:
    """The slots for changes and lists on the connections of a pool.

    A fifth of the connections is reserved for single statements, which need no slot. A fifth is for lists,
    and a fifth is a reserve for revocations. The rest is for changes of all kinds. Half of the reserve is for
    the platform only. With fewer than five connections nothing is reserved, and lists share a connection with
    changes.
    """

    def __init__(self, size: int, *, max_waiting: int) -> None:
        """`size` is the number of connections; `max_waiting` calls of one owner may wait for each kind."""
        fifth = size // 5

        def slots(number: int, share: int | None = None) -> Slots:
            return Slots(number, share=share, max_waiting=max_waiting)

        self.changes = slots(size - 3 * fifth)
        self.lists = slots(max(1, fifth))
        self.reserve = slots(fifth - fifth // 2)
        self.platform_reserve = slots(fifth // 2, share=fifth // 2) if fifth > 1 else self.reserve

    def for_change(self, owner_id: str, *, revokes: bool) -> Sequence[Slots]:
        """Return the slots that a change of this owner may use, in the order of preference."""
        if not revokes:
            return (self.changes,)
        return self.changes, self.platform_reserve if owner_id == PLATFORM_OWNER else self.reserve

    @property
    def kinds(self) -> dict[str, Slots]:
        """All slots, by their purpose."""
        return {
            "change": self.changes,
            "list": self.lists,
            "revocation": self.reserve,
            "platform_revocation": self.platform_reserve,
        }
