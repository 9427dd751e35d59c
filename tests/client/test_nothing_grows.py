"""A client that follows for a long time, and its worker, keep no more than before."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Any

from tests.client.following_loop import Loop, following_loop

_CONTAINERS = dict, list, set, frozenset, tuple, deque, OrderedDict, Counter, bytearray


def _fields(thing: Any) -> Iterator[tuple[str, Any]]:
    for kind in type(thing).__mro__:
        for name in getattr(kind, "__slots__", ()):
            yield name, getattr(thing, name, None)
    yield from getattr(thing, "__dict__", {}).items()


def _kept(*roots: Any) -> Counter[str]:
    """Return how many elements there are in containers that authsvc's objects refer to, by attribute."""
    seen: set[int] = set()
    counted: Counter[str] = Counter()
    waiting: list[tuple[str, Any]] = [(type(root).__name__, root) for root in roots]
    while waiting:
        path, thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, _CONTAINERS):
            counted[path] += len(thing)
            values = [*thing, *thing.values()] if isinstance(thing, Mapping) else thing
            waiting += [(path, value) for value in values]
        elif type(thing).__module__.startswith("authsvc.") or thing in roots:
            waiting += [(f"{type(thing).__name__}.{name}", value) for name, value in _fields(thing)]
    return counted


def _kept_by(loop: Loop) -> Counter[str]:
    # The history of the feed grows to a bound of its own, which test_rules.py holds.
    loop.holder._history.clear()
    return _kept(loop.holder, loop.following, loop.verifier, loop.stream, loop.memory)


async def test_nothing_grows_with_the_changes() -> None:  # R12 to R14
    """Half of the changes concern what the client holds; the other half do not."""
    async with asyncio.timeout(60), following_loop(lambda: 1000.0, 100) as loop:
        await loop.changes(400)
        before = _kept_by(loop)
        # What has entries is seen, and what waits for an answer.
        assert {"ClientHoldings._held", "Holdings._entries", "ClientHolder._unconfirmed"} <= before.keys()
        assert {"Outbox._waiting", "LookUps._asked", "UsageNotes._pending"} <= before.keys()
        await loop.changes(1000)
        grown = {path: count - before[path] for path, count in _kept_by(loop).items() if count > before[path]}
        assert not grown
        # Both sides know of the same keys.
        assert len(loop.following._client.holdings) == len(loop.memory) == len(loop.keys)
