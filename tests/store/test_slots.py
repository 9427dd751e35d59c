"""Slots: which callers get one, which wait, and in which order."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest

from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.errors import Overloaded
from authsvc.store.slots import DatabaseSlots, Slots, slot

_LONG = 3600


class Holders:
    """Callers that take slots, each by an owner's name, and the order in which they got one."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self._leaving: dict[asyncio.Task[None], asyncio.Event] = {}

    def start(
        self, owner_id: str, choices: Sequence[Slots], *, patience: float = _LONG
    ) -> "asyncio.Task[None]":
        leaves = asyncio.Event()

        async def hold() -> None:
            async with slot(choices, owner_id, max_wait=patience):
                self.order.append(owner_id)
                await leaves.wait()

        task = asyncio.create_task(hold())
        self._leaving[task] = leaves
        return task

    async def end(self, task: "asyncio.Task[None]") -> None:
        self._leaving[task].set()
        await task
        await settled()


async def settled() -> None:
    """Let all callers run as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_owner_gets_more_than_its_share_only_while_it_is_alone() -> None:
    """All but one slot, which the next owner gets; when that owner waits, the first has to have fewer."""
    slots, holders = Slots(4), Holders()
    acme = [holders.start("acme", [slots]) for _ in range(6)]
    await settled()
    assert (slots.in_use, slots.waiting) == (3, 3)
    globex = [holders.start("globex", [slots]) for _ in range(2)]
    await settled()
    assert holders.order == ["acme", "acme", "acme", "globex"]
    await holders.end(acme[0])
    assert holders.order == ["acme", "acme", "acme", "globex", "globex"]
    await holders.end(acme[1])
    assert holders.order == ["acme", "acme", "acme", "globex", "globex", "acme"]
    for task in (*acme[2:], *globex):
        await holders.end(task)
    assert (slots.in_use, slots.waiting, slots.refused) == (0, 0, 0)


async def test_who_is_left_alone_gets_more() -> None:
    """Also when the only other waiting owner goes away."""
    slots, holders = Slots(4, share=1), Holders()
    holding = [holders.start(owner, [slots]) for owner in "aaab"]
    waiting, leaving = (holders.start(owner, [slots]) for owner in "ab")
    await settled()
    for task in holding[:2]:
        await holders.end(task)
    assert (slots.in_use, slots.waiting) == (2, 2)
    leaving.cancel()
    await settled()
    assert (slots.in_use, slots.waiting) == (3, 0)
    for task in (*holding[2:], waiting):
        await holders.end(task)
    assert slots.in_use == 0


@pytest.mark.parametrize(("size", "share"), [(1, 1), (2, 1), (3, 1), (4, 2), (10, 5)])
def test_a_share_is_half_and_at_least_one(size: int, share: int) -> None:
    assert Slots(size).share == share


async def test_owners_take_turns() -> None:
    """However many callers of one owner wait, another is served after one of them; within one, in order."""
    slots, holders = Slots(1), Holders()
    waiting = [holders.start(owner, [slots]) for owner in ("a", "a", "a", "a", "b", "b", "c")]
    await settled()
    first, *waiting = waiting
    await holders.end(first)
    for task in (waiting[0], waiting[3], waiting[5], waiting[1], waiting[4], waiting[2]):
        await holders.end(task)
    assert holders.order == ["a", "a", "b", "c", "a", "b", "a"]


async def test_who_has_its_share_is_passed_over_and_keeps_its_turn() -> None:
    """A free slot passes an owner that has its share; that owner is next as soon as it has fewer."""
    slots, holders = Slots(2), Holders()
    a, b = holders.start("a", [slots]), holders.start("b", [slots])
    next_a, next_c, next_d = (holders.start(owner, [slots]) for owner in "acd")
    await settled()
    await holders.end(b)
    assert holders.order == ["a", "b", "c"]
    await holders.end(a)
    assert holders.order == ["a", "b", "c", "a"]
    for task in (next_c, next_a, next_d):
        await holders.end(task)
    assert holders.order == ["a", "b", "c", "a", "d"]


async def test_the_second_choice_is_for_those_who_have_it() -> None:
    """Callers that may also take other slots do so when the first are full, and wait for both."""
    slots, reserve, holders = Slots(1), Slots(1), Holders()
    first = holders.start("a", [slots])
    second, third = (holders.start("b", [slots, reserve]) for _ in range(2))
    fourth = holders.start("c", [slots])
    await settled()
    assert (slots.in_use, slots.waiting, reserve.in_use, reserve.waiting) == (1, 2, 1, 1)
    await holders.end(second)
    assert (slots.in_use, slots.waiting, reserve.in_use, reserve.waiting) == (1, 1, 1, 0)
    await holders.end(first)
    assert (slots.in_use, slots.waiting, reserve.in_use, reserve.waiting) == (1, 0, 1, 0)
    await holders.end(third)
    await holders.end(fourth)
    assert (slots.in_use, reserve.in_use) == (0, 0)


async def test_who_waits_too_long_is_told() -> None:
    """And its slot goes to the next one."""
    slots, holders = Slots(1), Holders()
    first = holders.start("a", [slots])
    await settled()
    with pytest.raises(Overloaded) as refusal:
        await holders.start("b", [slots], patience=0)
    assert (refusal.value.reason, refusal.value.retry_after) == ("DATABASE_BUSY", 1)
    assert "AUTHSVC_DATABASE_POOL_SIZE" in refusal.value.message
    assert (slots.waiting, slots.refused) == (0, 1)
    await holders.end(first)
    assert slots.in_use == 0


async def test_too_many_waiting_of_one_owner() -> None:
    """The next is refused at once; another owner still waits, as does a caller with a second choice."""
    slots, reserve, holders = Slots(1, max_waiting=2), Slots(1, max_waiting=2), Holders()
    tasks = [holders.start("a", choices) for choices in ([slots], [reserve], [slots], [slots])]
    await settled()
    with pytest.raises(Overloaded) as refusal:
        await holders.start("a", [slots])
    assert refusal.value.reason == "DATABASE_QUEUE_FULL"
    tasks += [holders.start("b", [slots]), holders.start("a", [slots, reserve])]
    await settled()
    assert (slots.waiting, reserve.waiting, slots.refused) == (3, 1, 1)
    for task in tasks[0], tasks[1], tasks[5], tasks[2], tasks[4], tasks[3]:
        await holders.end(task)
    assert (slots.in_use, reserve.in_use, slots.waiting, reserve.waiting) == (0, 0, 0, 0)


async def test_who_is_cancelled_leaves_nothing() -> None:
    """While it waits, and in the moment between the grant of a slot and its taking."""
    slots, holders = Slots(1), Holders()
    assert slots.take("a")
    waiting, granted, last = (holders.start(owner, [slots]) for owner in "bcd")
    await settled()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert slots.waiting == 2
    slots.give_back("a")  # It belongs to the next caller, which has not run yet.
    granted.cancel()
    await asyncio.wait({granted})
    await settled()
    assert holders.order == ["d"]
    await holders.end(last)
    assert (slots.in_use, slots.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("size", "changes", "lists", "tenants", "platform", "kept"),
    [
        (5, 2, 1, 1, 1, 1),
        (10, 4, 2, 1, 1, 2),
        (14, 8, 2, 1, 1, 2),
        (20, 8, 4, 2, 2, 4),
        (50, 20, 10, 5, 5, 10),
    ],
)
def test_how_a_pool_is_shared_out(
    size: int, changes: int, lists: int, tenants: int, platform: int, kept: int
) -> None:
    """All concurrent callers that slots admit leave connections for single statements."""
    slots = DatabaseSlots(size, max_waiting=1)
    assert (slots.changes.size, slots.lists.size) == (changes, lists)
    assert (slots.reserve.size, slots.platform_reserve.size) == (tenants, platform)
    different = {id(each): each for each in slots.kinds.values()}.values()
    assert size - sum(each.size for each in different) == kept


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_small_pool_keeps_nothing(size: int) -> None:
    slots = DatabaseSlots(size, max_waiting=1)
    assert (slots.changes.size, slots.lists.size, slots.reserve.size) == (size, 1, 0)


async def test_the_platform_finds_a_slot_whatever_tenants_revoke() -> None:
    """Floods of several tenants fill the common slots and their part of the reserve; its own is left."""
    slots, holders = DatabaseSlots(10, max_waiting=100), Holders()
    owners = ["acme", "globex", "initech", "umbrella"] * 20
    flood = [holders.start(owner, slots.for_change(owner, revokes=True)) for owner in owners]
    await settled()
    assert (slots.changes.in_use, slots.reserve.in_use) == (4, 1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            slot(slots.for_change(PLATFORM_OWNER, revokes=True), PLATFORM_OWNER, max_wait=0)
        )
        with pytest.raises(Overloaded):
            await stack.enter_async_context(
                slot(slots.for_change(PLATFORM_OWNER, revokes=False), PLATFORM_OWNER, max_wait=0)
            )
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)
    assert [each.in_use for each in slots.kinds.values()] == [0, 0, 0, 0]
