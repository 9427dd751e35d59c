"""The prefix cache: key prefix → what was proved about the one string that has it.

Mechanism: a dictionary in order of arrival, evicted by CLOCK with second chances
(Corbató 1968): a hit sets one flag and moves nothing, so it costs a look-up.
Concurrent misses of one string share one fill.

Bound: `capacity` is the weight of all entries. A usual one weighs 1, one with large annotations or many
scopes up to some 40, so that capacity is a bound in bytes, too: 1.7 KiB each at most. An eviction looks at
no more than twice `_CHANCES` entries, so that a full cache of well-used entries cannot stall the event loop.

Fairness: an owner that holds its share, an eighth of the capacity, makes room with its own entries, or with
those that nobody has used for five minutes. An owner below its share makes room with any that was not used
since the last look. So one that loads any number of keys takes no more than a share from others that use
theirs, and can have all for as long as nobody else wants it. Entries of no key count as of one owner.

Failure: a fill that fails is remembered by nobody; the next miss tries again. A
fill that was under way when its prefix was forgotten is not admitted, and nobody
new joins it: it may have read the old row.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from hashlib import blake2b
from secrets import token_bytes

from authsvc.model.credential import Credential, CredentialKind
from authsvc.verify.clock import Stopwatch, boottime
from authsvc.verify.entry import Entry
from authsvc.verify.holdings import Holdings

_CHANCES = 16
# An owner's share is this part of the capacity.
_SHARES = 8
# Seconds after which what nobody has used is anybody's to take.
_IDLE = 300


class _Fill:
    __slots__ = ("forgotten", "outdated", "prefix", "task")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.outdated = False
        # The owners that were forgotten meanwhile; whose key it loads is not known before the end.
        self.forgotten: set[tuple[str, CredentialKind | None]] = set()
        self.task: asyncio.Task[Entry | None]

    def concerns(self, credential: Credential | None) -> bool:
        return credential is not None and not self.forgotten.isdisjoint(
            {(credential.owner_id, None), (credential.owner_id, credential.kind)}
        )


class PrefixCache:
    """Entries by key prefix. Not thread-safe: it belongs to one event loop."""

    def __init__(self, capacity: int, stopwatch: Stopwatch = boottime) -> None:
        self._capacity = capacity
        self._share = max(1, capacity // _SHARES)
        self._stopwatch = stopwatch
        # The second of the last admission; one number for all entries of that second.
        self._second = 0
        self.weight = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        # The entries of each owner, so that what one does costs no look at what all the others have.
        self._owned = Holdings(self._entries)
        self._fills: dict[bytes, _Fill] = {}
        self._digest_key = token_bytes(32)
        self.evictions = 0
        self.changes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def digest(self, text: str) -> bytes:
        """Return a digest of `text` that is good in this process only (keyed BLAKE2b, RFC 7693)."""
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._digest_key).digest()

    def get(self, prefix: str) -> Entry | None:
        """Return what is remembered of a prefix."""
        entry = self._entries.get(prefix)
        if entry is not None:
            entry.used = True
        return entry

    async def fill(
        self, prefix: str, digest: bytes, load: Callable[[], Awaitable[Entry | None]]
    ) -> Entry | None:
        """Return what `load` finds, and remember it unless it is None or outdated by then.

        Callers with the same digest share one load. One caller's cancellation does
        not disturb the others.
        """
        fill = self._fills.get(digest)
        if fill is None:
            fill = self._fills[digest] = _Fill(prefix)
            fill.task = asyncio.create_task(self._run(fill, digest, load))
            # Whoever waits sees the error; when all have left, nobody needs to.
            fill.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(fill.task)

    def is_filling(self, digest: bytes) -> bool:
        """Say whether a fill of this string is under way that another caller would join."""
        return digest in self._fills

    def forget(self, prefixes: Collection[str]) -> None:
        """Drop what is remembered of these prefixes, and see to it that no fill under way brings it back."""
        self.changes += 1
        for prefix in prefixes:
            self._remove(prefix)
        self._detach(lambda fill: fill.prefix in prefixes)

    def forget_owner(self, owner_id: str, kind: CredentialKind | None = None) -> None:
        """Drop all that is remembered of an owner, or what is of one kind, likewise.

        A fill under way goes on, for those who come later, too: if it was of that owner they find nothing
        in memory then and ask again. So one owner's changes keep nobody else's keys out of memory.
        """
        self.changes += 1
        for prefix in self._owned.of(owner_id):
            credential = self._entries[prefix].credential
            if credential is not None and kind in (None, credential.kind):
                self._remove(prefix)
        for fill in self._fills.values():
            fill.forgotten.add((owner_id, kind))

    def clear(self) -> None:
        """Drop everything, likewise."""
        self.changes += 1
        self._entries.clear()
        self.weight = 0
        self._owned.clear()
        self._detach(lambda fill: True)

    def _detach(self, concerns: Callable[[_Fill], bool]) -> None:
        """Let those who wait for such a fill have it, and nobody else."""
        for digest, fill in list(self._fills.items()):
            if concerns(fill):
                fill.outdated = True
                del self._fills[digest]

    async def _run(
        self, fill: _Fill, digest: bytes, load: Callable[[], Awaitable[Entry | None]]
    ) -> Entry | None:
        try:
            entry = await load()
            if entry is not None and not fill.outdated and not fill.concerns(entry.credential):
                self._admit(fill.prefix, entry)
            return entry
        finally:
            if not fill.outdated:
                del self._fills[digest]

    def _admit(self, prefix: str, entry: Entry) -> None:
        self._remove(prefix)
        if (second := int(self._stopwatch())) != self._second:
            self._second = second
        entry.since = self._second
        weight = entry.weight
        # Whatever it weighs, there is room for one: who asks finds the answer in memory.
        while self._entries and self.weight + weight > self._capacity:
            self._remove(self._victim(entry.owner_id))
            self.evictions += 1
        self._entries[prefix] = entry
        self._owned.add(prefix, entry)
        self.weight += weight

    def _remove(self, prefix: str) -> None:
        entry = self._entries.pop(prefix, None)
        if entry is not None:
            self._owned.remove(prefix, entry)
            self.weight -= entry.weight

    def _victim(self, owner_id: str) -> str:
        """Return what makes room for an entry of an owner."""
        if self._owned.weight(owner_id) < self._share:
            return self._oldest_unused(self._entries)
        idle = self._idle()
        return self._oldest_unused(self._owned.order(owner_id)) if idle is None else idle

    def _oldest_unused(self, order: "OrderedDict[str, Entry]") -> str:
        for _ in range(_CHANCES):
            oldest, entry = next(iter(order.items()))
            if not entry.used:
                break
            entry.used, entry.since = False, self._second
            order.move_to_end(oldest)
        return next(iter(order))

    def _idle(self) -> str | None:
        """Return something that nobody has used for long, if a short look finds it.

        `used` is taken back no more often than that, so that whoever looks often ages nobody's entries.
        """
        for _ in range(_CHANCES):
            oldest, entry = next(iter(self._entries.items()))
            if self._second - entry.since >= _IDLE:
                if not entry.used:
                    return oldest
                entry.used, entry.since = False, self._second
            self._entries.move_to_end(oldest)
        return None
