"""The prefix cache: for each key prefix, the one string that was proved, and its credential.

A credential that was looked up for a token has no proved string yet (`Entry.digest`).

Mechanism: a dictionary in the order of arrival, with CLOCK eviction and second chances (Corbató 1968). A hit
sets one flag and moves nothing, so it costs one look-up. Concurrent misses of one string share one fill.

Bound: `capacity` limits the weight of all entries. A usual entry weighs 1, one with large annotations or many
scopes up to about 40. So the capacity is a bound in bytes, too: at most 2 KiB for each unit. An eviction
examines at most twice `_MAX_CHANCES` entries, so a full cache cannot stall the event loop.

Fairness: the share of an owner is an eighth of the capacity. An owner that has reached it evicts its own
entries, or those that were not used for five minutes. An owner below its share may evict any entry that was
not used recently. So an owner that loads very many keys takes at most one share from owners that use theirs,
and may use the whole cache while nobody else needs it. Prefixes without a credential count as one owner.

Failure: a fill that fails is not remembered; the next miss tries again. A fill that was under way when its
prefix was forgotten may have read the old row. Its result is not admitted, and new callers do not join it.
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

# How many used entries an eviction spares before it takes one.
_MAX_CHANCES = 16
# The share of an owner is the capacity divided by this.
_SHARES = 8
# After this time without use, any owner may evict an entry.
_IDLE_SECONDS = 300


class _Fill:
    __slots__ = ("forgotten", "outdated", "prefix", "task")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.outdated = False
        # The owners that were forgotten meanwhile. The owner of the loaded key is known only at the end.
        self.forgotten: set[tuple[str, CredentialKind | None]] = set()
        self.task: asyncio.Task[Entry | None]

    def concerns(self, credential: Credential | None) -> bool:
        return credential is not None and not self.forgotten.isdisjoint(
            {(credential.owner_id, None), (credential.owner_id, credential.kind)}
        )


class PrefixCache:
    """Entries by key prefix. Not thread-safe: it belongs to one event loop."""

    def __init__(
        self,
        capacity: int,
        stopwatch: Stopwatch = boottime,
        on_eviction: Callable[[str], object] = lambda _: None,
    ) -> None:
        """Take the capacity, and what to call with the prefix of each entry that makes room for another."""
        #: The weight that all entries may have together.
        self.capacity = capacity
        self._on_eviction = on_eviction
        self._share = max(1, capacity // _SHARES)
        self._stopwatch = stopwatch
        # The second of the last admission. Entries of one second share this integer, to save memory.
        self._second = 0
        self.weight = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        # The entries of each owner, so that to forget one owner does not mean a scan of all entries.
        self._owned = Holdings(self._entries)
        self._fills: dict[bytes, _Fill] = {}
        # A copy costs less than to begin with the key.
        self._keyed = blake2b(digest_size=16, key=token_bytes(32))
        self.evictions = 0
        self.fills = 0
        self.changes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, prefix: str) -> bool:
        """Return whether there is an entry, which does not count as a use."""
        return prefix in self._entries

    def digest(self, text: str) -> bytes:
        """Return a digest of `text` under the key of this process (keyed BLAKE2b, RFC 7693)."""
        digest = self._keyed.copy()
        digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def get(self, prefix: str) -> Entry | None:
        """Return the entry of a prefix, and mark it as used."""
        entry = self._entries.get(prefix)
        if entry is not None:
            entry.used = True
        return entry

    async def fill(
        self, prefix: str, digest: bytes, load: Callable[[], Awaitable[Entry | None]]
    ) -> Entry | None:
        """Return the result of `load`, and remember it unless it is None or was forgotten meanwhile.

        Callers with the same digest share one load; the cancellation of one does not affect the others.
        Raises what `load` raises.
        """
        fill = self._fills.get(digest)
        if fill is None:
            self.fills += 1
            fill = self._fills[digest] = _Fill(prefix)
            fill.task = asyncio.create_task(self._run(fill, digest, load))
            # Retrieve the error in case every caller has gone; those that wait see it anyway.
            fill.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(fill.task)

    @property
    def filling(self) -> int:
        """How many fills are under way."""
        return len(self._fills)

    def is_filling(self, digest: bytes) -> bool:
        """Return whether a fill of this string is under way that another caller would join."""
        return digest in self._fills

    def forget(self, prefixes: Collection[str]) -> None:
        """Drop the entries of these prefixes, and keep fills under way from bringing them back."""
        self.changes += 1
        for prefix in prefixes:
            self._remove(prefix)
        self._detach(lambda fill: fill.prefix in prefixes)

    def forget_owner(self, owner_id: str, kind: CredentialKind | None = None) -> None:
        """Drop the entries of an owner, or those of one kind, in the same way.

        Callers still join a fill that is under way, because its owner is not known yet. If it is this owner,
        the result is not admitted, so they find nothing in memory and start again. The fills of other owners
        are not affected.
        """
        self.changes += 1
        for prefix in self._owned.of(owner_id):
            credential = self._entries[prefix].credential
            if credential is not None and kind in (None, credential.kind):
                self._remove(prefix)
        for fill in self._fills.values():
            fill.forgotten.add((owner_id, kind))

    def clear(self) -> None:
        """Drop all entries, in the same way."""
        self.changes += 1
        self._entries.clear()
        self.weight = 0
        self._owned.clear()
        self._detach(lambda fill: True)

    def _detach(self, concerns: Callable[[_Fill], bool]) -> None:
        """Leave these fills to the callers that already wait; nobody joins them, and nothing is admitted."""
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
                self._admit_loaded(fill.prefix, entry)
            return entry
        finally:
            if not fill.outdated:
                del self._fills[digest]

    def _admit_loaded(self, prefix: str, entry: Entry) -> None:
        # What was proved meanwhile is as recent, and would have to be proved again.
        if entry.digest or prefix not in self._entries:
            self.admit(prefix, entry)

    def admit(self, prefix: str, entry: Entry) -> None:
        """Remember an entry that is up to date with every change that was applied here."""
        self._remove(prefix)
        if (second := int(self._stopwatch())) != self._second:
            self._second = second
        entry.since = self._second
        weight = entry.weight
        # One entry is admitted whatever its weight, so that the caller finds the answer in memory.
        while self._entries and self.weight + weight > self.capacity:
            victim = self._victim(entry.owner_id)
            self._remove(victim)
            self.evictions += 1
            self._on_eviction(victim)
        self._entries[prefix] = entry
        self._owned.add(prefix, entry)
        self.weight += weight

    def _remove(self, prefix: str) -> None:
        entry = self._entries.pop(prefix, None)
        if entry is not None:
            self._owned.remove(prefix, entry)
            self.weight -= entry.weight

    def _victim(self, owner_id: str) -> str:
        """Return the prefix to evict for an entry of this owner."""
        if self._owned.weight(owner_id) < self._share:
            return self._oldest_unused(self._entries)
        idle = self._idle()
        return self._oldest_unused(self._owned.order(owner_id)) if idle is None else idle

    def _oldest_unused(self, order: "OrderedDict[str, Entry]") -> str:
        for _ in range(_MAX_CHANCES):
            oldest, entry = next(iter(order.items()))
            if not entry.used:
                break
            entry.used, entry.since = False, self._second
            order.move_to_end(oldest)
        return next(iter(order))

    def _idle(self) -> str | None:
        """Return a prefix that was not used for `_IDLE_SECONDS`, if a short search finds one.

        `used` is reset at most once in that time, so frequent searches do not age the entries of others.
        """
        for _ in range(_MAX_CHANCES):
            oldest, entry = next(iter(self._entries.items()))
            if self._second - entry.since >= _IDLE_SECONDS:
                if not entry.used:
                    return oldest
                entry.used, entry.since = False, self._second
            self._entries.move_to_end(oldest)
        return None
