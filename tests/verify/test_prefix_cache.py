"""The prefix cache: what it remembers, what it shares, what it forgets."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from sys import getsizeof
from typing import NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.model.credential import Credential
from authsvc.model.errors import Unavailable
from authsvc.verify.entry import Entry
from authsvc.verify.prefix_cache import PrefixCache
from tests.verify.parts import Pause

CHANCES = 16
UNAVAILABLE = Unavailable("gone", reason="GONE", retry_after=1)


class Load:
    """A load that counts its runs, and pauses or fails when told to."""

    def __init__(self, entry: Entry | None = None) -> None:
        self.entry = entry
        self.runs = 0
        self.fault: BaseException | None = None
        self.pause: Pause | None = None

    async def __call__(self) -> Entry | None:
        self.runs += 1
        entry, fault = self.entry, self.fault
        if self.pause is not None:
            await self.pause.here()
        if fault is not None:
            raise fault
        return entry


def paused(entry: Entry | None) -> tuple[Load, Pause]:
    load = Load(entry)
    load.pause = Pause()
    return load, load.pause


def an_entry(owner_id: str = "", annotations: Mapping[str, str] | None = None) -> Entry:
    credential = Credential("key_1", owner_id, (), None, None, annotations or {}) if owner_id else None
    return Entry(b"digest", credential)


async def remember(cache: PrefixCache, *prefixes: str, owner_id: str = "") -> None:
    for prefix in prefixes:
        await cache.fill(prefix, cache.digest(prefix), Load(an_entry(owner_id)))


def there(cache: PrefixCache, prefixes: Sequence[str]) -> list[str]:
    """Return those that are in memory, without using them."""
    return [prefix for prefix in prefixes if prefix in cache._entries]


async def test_a_hit_returns_what_was_admitted() -> None:
    """The result of a fill is returned and remembered, under its prefix only."""
    cache = PrefixCache(2)
    entry = an_entry()
    assert await cache.fill("a", b"A", Load(entry)) is entry
    assert cache.get("a") is entry
    assert cache.get("b") is None
    assert len(cache) == 1


async def test_nothing_found_is_not_remembered() -> None:
    """A load that finds nothing takes no room, and the next miss loads again."""
    cache, load = PrefixCache(2), Load(None)
    assert await cache.fill("a", b"A", load) is None
    assert await cache.fill("a", b"A", load) is None
    assert (load.runs, len(cache), cache.get("a")) == (2, 0, None)


async def test_a_later_fill_replaces_the_entry() -> None:
    """Of two fills of one prefix the later one counts; it takes no additional room."""
    cache, entry = PrefixCache(1), an_entry()
    await remember(cache, "a")
    await cache.fill("a", b"A2", Load(entry))
    assert cache.get("a") is entry
    assert (len(cache), cache.evictions) == (1, 0)


def test_digest_is_of_this_process() -> None:
    """Equal texts have equal digests in one cache and different ones in the next; any text has one."""
    cache = PrefixCache(1)
    for text in "", "a", "\0", "\ud800", "é":
        assert cache.digest(text) == cache.digest(text)
        assert len(cache.digest(text)) == 16
        assert cache.digest(text) != PrefixCache(1).digest(text)
    assert cache.digest("\ud800") != cache.digest("\ud801")


@settings(deadline=None)
@given(st.data(), st.integers(1, CHANCES))
async def test_used_entries_outlive_unused_ones(data: st.DataObject, capacity: int) -> None:
    """While there is an unused entry, no used one is evicted."""
    cache = PrefixCache(capacity)
    prefixes = [f"p{number}" for number in range(capacity)]
    await remember(cache, *prefixes)
    used = data.draw(st.lists(st.sampled_from(prefixes), unique=True, max_size=capacity - 1))
    for prefix in used:
        cache.get(prefix)
    await remember(cache, "newcomer")
    assert (len(cache), cache.evictions) == (capacity, 1)
    assert cache.get("newcomer") is not None
    assert all(cache.get(prefix) is not None for prefix in used)


async def test_the_oldest_unused_entry_is_evicted() -> None:
    """If no entry was used, the first one in is the first one out."""
    cache = PrefixCache(3)
    await remember(cache, "a", "b", "c", "d", "e")
    assert [prefix for prefix in "abcde" if cache.get(prefix)] == ["c", "d", "e"]
    assert cache.evictions == 2


async def test_use_does_not_protect_for_ever() -> None:
    """An entry that was used once gets a second chance, not a third."""
    cache = PrefixCache(2)
    await remember(cache, "a", "b")
    cache.get("a")
    await remember(cache, "c", "d")
    assert cache.get("a") is None


async def test_an_eviction_gives_a_bounded_number_of_chances() -> None:
    """In a cache full of used entries an eviction passes 16 of them and takes the next, used as it is."""
    cache = PrefixCache(40)
    prefixes = [f"p{number}" for number in range(40)]
    await remember(cache, *prefixes)
    for prefix in prefixes:
        cache.get(prefix)
    await remember(cache, "newcomer")
    assert [prefix for prefix in prefixes if cache.get(prefix) is None] == ["p16"]


async def test_concurrent_misses_share_one_load() -> None:
    """Any number of callers that miss the same string wait for one load and get the same result."""
    cache, entry = PrefixCache(2), an_entry()
    load, pause = paused(entry)
    waiting = [asyncio.create_task(cache.fill("a", b"A", load)) for _ in range(50)]
    await pause.reached()
    pause.open()
    assert all(found is entry for found in await asyncio.gather(*waiting))
    assert load.runs == 1


async def test_two_strings_do_not_share_a_load() -> None:
    """Two strings with the same prefix are proved separately."""
    cache, entry = PrefixCache(2), an_entry()
    wrong, pause = paused(None)
    waiting = asyncio.create_task(cache.fill("a", b"wrong", wrong))
    await pause.reached()
    assert await cache.fill("a", b"right", Load(entry)) is entry
    pause.open()
    assert await waiting is None
    assert cache.get("a") is entry


@pytest.mark.parametrize("gone", [0, 1, 2], ids=["first", "second", "third"])
async def test_cancellation_does_not_disturb_the_others(gone: int) -> None:
    """Whichever caller goes away, even the first one, the others get their answer."""
    cache, entry = PrefixCache(2), an_entry()
    load, pause = paused(entry)
    waiting = [asyncio.create_task(cache.fill("a", b"A", load)) for _ in range(3)]
    await pause.reached()
    leaver = waiting.pop(gone)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    pause.open()
    assert all(found is entry for found in await asyncio.gather(*waiting))
    assert load.runs == 1


async def test_a_load_that_all_have_left_is_finished() -> None:
    """A later caller joins the load that its only caller has left."""
    cache, entry = PrefixCache(2), an_entry()
    load, pause = paused(entry)
    leaver = asyncio.create_task(cache.fill("a", b"A", load))
    await pause.reached()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    joiner = asyncio.create_task(cache.fill("a", b"A", load))
    pause.open()
    assert await joiner is entry
    assert cache.get("a") is entry
    assert load.runs == 1


async def test_a_failing_load_is_not_remembered() -> None:
    """All waiting callers get the error; the next miss tries again."""
    cache, entry = PrefixCache(2), an_entry()
    load, pause = paused(entry)
    load.fault = UNAVAILABLE
    waiting = [asyncio.create_task(cache.fill("a", b"A", load)) for _ in range(3)]
    await pause.reached()
    pause.open()
    assert await asyncio.gather(*waiting, return_exceptions=True) == [UNAVAILABLE] * 3
    assert (cache.get("a"), len(cache)) == (None, 0)
    load.fault = None
    assert await cache.fill("a", b"A", load) is entry
    assert load.runs == 2


async def test_forgotten_is_gone() -> None:
    """What is forgotten is not returned until it is filled again; other entries stay."""
    cache = PrefixCache(3)
    await remember(cache, "a", "b", "c")
    cache.forget({"a", "c", "unknown"})
    assert [prefix for prefix in "abc" if cache.get(prefix)] == ["b"]
    await remember(cache, "a")
    assert cache.get("a") is not None


async def test_forgetting_during_a_fill() -> None:  # rule 15
    """A fill whose prefix is forgotten answers earlier callers, and leaves nothing in memory."""
    cache, old = PrefixCache(2), an_entry()
    load, pause = paused(old)
    waiting = asyncio.create_task(cache.fill("a", b"A", load))
    await pause.reached()
    cache.forget({"a"})
    pause.open()
    assert await waiting is old
    assert cache.get("a") is None
    assert len(cache) == 0


async def test_nobody_joins_an_outdated_fill() -> None:  # rule 15
    """A caller after the forgetting gets a separate load, which is remembered, whichever ends first."""
    for old_ends_first in (True, False):
        cache, old, new = PrefixCache(2), an_entry(), an_entry()
        old_load, old_pause = paused(old)
        new_load, new_pause = paused(new)
        before = asyncio.create_task(cache.fill("a", b"A", old_load))
        await old_pause.reached()
        cache.forget({"a"})
        after = [asyncio.create_task(cache.fill("a", b"A", new_load)) for _ in range(2)]
        await new_pause.reached()
        ends = [(old_pause, [before]), (new_pause, after)]
        for pause, waiting in ends if old_ends_first else reversed(ends):
            pause.open()
            await asyncio.gather(*waiting)
        assert await before is old
        assert [await waiting for waiting in after] == [new, new]
        assert cache.get("a") is new
        assert (old_load.runs, new_load.runs) == (1, 1)


async def test_an_outdated_fill_does_not_end_the_sharing_of_the_new_one() -> None:
    """While the new fill is in progress, the end of the old one does not cause a third load."""
    cache = PrefixCache(2)
    old_load, old_pause = paused(an_entry())
    new_load, new_pause = paused(an_entry())
    before = asyncio.create_task(cache.fill("a", b"A", old_load))
    await old_pause.reached()
    cache.forget({"a"})
    after = asyncio.create_task(cache.fill("a", b"A", new_load))
    await new_pause.reached()
    old_pause.open()
    await before
    joiner = asyncio.create_task(cache.fill("a", b"A", new_load))
    new_pause.open()
    assert await joiner is await after
    assert new_load.runs == 1


async def test_forgetting_reaches_all_strings_of_a_prefix() -> None:  # rule 15
    """Of two strings with one prefix that are being proved, neither is remembered; another prefix's is."""
    cache = PrefixCache(3)
    loads = {digest: paused(an_entry()) for digest in (b"one", b"two", b"other")}
    prefixes = {b"one": "a", b"two": "a", b"other": "b"}
    waiting = [
        asyncio.create_task(cache.fill(prefixes[digest], digest, load)) for digest, (load, _) in loads.items()
    ]
    for _, pause in loads.values():
        await pause.reached()
    cache.forget({"a"})
    for _, pause in loads.values():
        pause.open()
    await asyncio.gather(*waiting)
    assert cache.get("a") is None
    assert cache.get("b") is not None


async def test_forgetting_an_entry_while_another_string_is_loading() -> None:  # rule 15
    """With one string remembered and another of its prefix loading, forgetting drops the one permanently."""
    cache = PrefixCache(2)
    await cache.fill("a", b"right", Load(an_entry()))
    wrong, pause = paused(None)
    waiting = asyncio.create_task(cache.fill("a", b"wrong", wrong))
    await pause.reached()
    cache.forget({"a"})
    pause.open()
    assert await waiting is None
    assert cache.get("a") is None


async def test_a_failing_outdated_fill_is_harmless() -> None:
    """If a load fails after its prefix was forgotten, waiting callers get the error; the next one works."""
    cache, entry = PrefixCache(2), an_entry()
    load, pause = paused(None)
    load.fault = UNAVAILABLE
    waiting = asyncio.create_task(cache.fill("a", b"A", load))
    await pause.reached()
    cache.forget({"a"})
    pause.open()
    with pytest.raises(Unavailable):
        await waiting
    assert await cache.fill("a", b"A", Load(entry)) is entry


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fill", "forget"]), st.sampled_from("abcdef"), st.sampled_from(["acme", ""])
        )
    )
)
async def test_an_owner_is_forgotten_whole(course: list[tuple[str, str, str]]) -> None:
    """Whatever was admitted, replaced, evicted and forgotten: all entries of the owner go, and no others."""
    cache = PrefixCache(3)
    for number, (what, prefix, owner_id) in enumerate(course):
        if what == "forget":
            cache.forget({prefix})
        else:
            await cache.fill(prefix, b"%d" % number, Load(an_entry(owner_id)))
    before = {prefix: entry for prefix in "abcdef" if (entry := cache.get(prefix))}
    cache.forget_owner("acme")
    left = {prefix: entry for prefix, entry in before.items() if entry.credential is None}
    assert {prefix: cache.get(prefix) for prefix in left} == left
    assert len(cache) == len(left)
    assert len(cache._owned) == bool(left)  # those without an owner count as of one owner


async def test_forgetting_an_owner_does_not_look_at_others() -> None:
    """However large the memory is, an owner that repeatedly ends all of its own delays no other caller."""

    class Unread(OrderedDict[str, Entry]):
        def __iter__(self) -> NoReturn:
            raise AssertionError("all that is remembered was gone through")

        keys = values = items = __iter__

    cache = PrefixCache(10)
    for prefix, owner_id in zip("abc", ("acme", "globex", "globex"), strict=True):
        await cache.fill(prefix, prefix.encode(), Load(an_entry(owner_id)))
    cache._entries = Unread(cache._entries)
    cache.forget_owner("acme")
    assert [cache.get(prefix) is None for prefix in "abc"] == [True, False, False]


SIZE = 64


class Seconds:
    """A stopwatch that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def named(owner: str, number: int) -> list[str]:
    return [f"{owner}{each}" for each in range(number)]


@settings(deadline=None, max_examples=50)
@given(
    st.data(),
    st.sampled_from(["mallory", ""]),
    st.lists(st.tuples(st.sampled_from(["load", "use own", "re-use"]), st.integers(0, 15)), max_size=50),
)
async def test_a_flood_of_one_owner_evicts_its_own(
    data: st.DataObject, flooder: str, course: list[tuple[str, int]]
) -> None:
    """An owner that loads and uses ten times the capacity leaves the quarter that another keeps using.

    `flooder` may be no owner: strings with valid tags that are not keys.
    """
    cache = PrefixCache(SIZE, Seconds())
    mine = named("acme", SIZE // 4)
    await remember(cache, *mine, owner_id="acme")
    loaded = 0
    for what, number in [*course, *[("load", 0)] * (10 * SIZE - len(course))]:
        if what == "load":
            loaded += 1
            await remember(cache, f"m{loaded}", owner_id=flooder)
        elif what == "use own" and loaded:
            cache.get(f"m{data.draw(st.integers(1, loaded))}")
        else:
            cache.get(mine[number])
        assert len(cache) <= SIZE
    assert there(cache, mine) == mine
    assert len(cache) == SIZE


async def test_a_share_is_all_that_is_taken_from_who_uses_theirs() -> None:
    """In a cache that one owner fills and uses, another gets an eighth, and no more by loading more."""
    cache = PrefixCache(SIZE, Seconds())
    mine = named("acme", SIZE)
    await remember(cache, *mine, owner_id="acme")
    for number in range(10 * SIZE):
        for prefix in mine:
            cache.get(prefix)
        await remember(cache, f"m{number}", owner_id="mallory")
        cache.get(f"m{number}")
    assert len(there(cache, mine)) == SIZE - SIZE // 8


async def test_who_is_below_their_share_takes_what_a_flood_left() -> None:
    """A newcomer displaces what was loaded and not used, and not what is in use."""
    cache = PrefixCache(SIZE, Seconds())
    mine, theirs = named("acme", SIZE // 4), named("m", 3 * SIZE // 4)
    await remember(cache, *mine, owner_id="acme")
    await remember(cache, *theirs, owner_id="mallory")
    for prefix in mine:
        cache.get(prefix)
    await remember(cache, *named("g", SIZE // 8), owner_id="globex")
    assert there(cache, mine) == mine
    assert len(there(cache, theirs)) == len(theirs) - SIZE // 8
    assert len(there(cache, named("g", SIZE // 8))) == SIZE // 8


async def test_what_nobody_uses_is_everybodys() -> None:
    """After five minutes without use it makes room for others, whatever they have; with use, it stays."""
    seconds = Seconds()
    cache = PrefixCache(SIZE, seconds)
    used, unused = named("u", SIZE // 4), named("acme", SIZE // 4)
    await remember(cache, *used, *unused, owner_id="acme")
    await remember(cache, *named("m", SIZE), owner_id="mallory")
    for prefix in used:
        cache.get(prefix)
    seconds.now += 299
    await remember(cache, *named("n", SIZE), owner_id="mallory")
    assert len(there(cache, [*used, *unused])) == SIZE // 2
    seconds.now += 1
    await remember(cache, *named("o", SIZE), owner_id="mallory")
    assert (there(cache, used), there(cache, unused)) == (used, [])
    seconds.now += 299
    await remember(cache, *named("p", SIZE), owner_id="mallory")
    assert there(cache, used) == used
    seconds.now += 1
    await remember(cache, *named("q", SIZE), owner_id="mallory")
    assert there(cache, used) == []
    assert len(cache) == SIZE


async def test_large_entries_take_the_room_of_several() -> None:
    """The capacity also limits the bytes: with annotations of the maximum size, fewer entries fit."""
    cache = PrefixCache(SIZE)
    for number in range(10 * SIZE):
        annotations = {f"{name:063}{number}"[-63:]: f"{name}{number}" + "\u20ac" * 250 for name in range(32)}
        await cache.fill(f"k{number}", b"%d" % number, Load(an_entry("acme", annotations)))
        assert cache.weight <= SIZE
    kept = sum(
        getsizeof(text)
        for entry in cache._entries.values()
        if entry.credential is not None
        for pair in entry.credential.annotations.items()
        for text in pair
    )
    assert 0 < kept <= SIZE * 1024
    assert len(cache) == SIZE // next(iter(cache._entries.values())).weight


async def test_there_is_always_room_for_one() -> None:
    """An entry larger than the capacity is remembered, alone: its caller looks for it in memory."""
    cache = PrefixCache(2)
    await remember(cache, "a", "b")
    large = an_entry("acme", {"a": "x" * 10_000})
    await cache.fill("large", b"large", Load(large))
    assert cache.get("large") is large
    assert len(cache) == 1
    await remember(cache, "c", "d")
    assert there(cache, ["large", "c", "d"]) == ["c", "d"]
    assert cache.weight == 2
