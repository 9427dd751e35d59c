"""The prefix cache: key prefix → what was proved about the one string that has it.

Mechanism: a dictionary in order of arrival, evicted by CLOCK with second chances
(Corbató 1968): a hit sets one flag and moves nothing, so it costs a look-up.
Concurrent misses of one string share one fill.

Bound: `capacity` entries. An eviction looks at no more than `_CHANCES` entries,
so that a full cache of well-used entries cannot stall the event loop.

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

_CHANCES = 16


class Entry:
    """What is remembered of a prefix. `credential` is None when no key has it (any more)."""

    __slots__ = ("credential", "digest", "used")

    def __init__(self, digest: bytes, credential: Credential | None) -> None:
        self.digest = digest
        self.credential = credential
        self.used = False


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


class _Owned:
    """The prefixes of each owner. Most owners have one, and a set for each would be half an entry."""

    def __init__(self) -> None:
        self._prefixes: dict[str, str | set[str]] = {}

    def __len__(self) -> int:
        return len(self._prefixes)

    def of(self, owner_id: str) -> list[str]:
        owned = self._prefixes.get(owner_id, ())
        return [owned] if isinstance(owned, str) else list(owned)

    def add(self, owner_id: str, prefix: str) -> None:
        owned = self._prefixes.setdefault(owner_id, prefix)
        if isinstance(owned, set):
            owned.add(prefix)
        elif owned != prefix:
            self._prefixes[owner_id] = {owned, prefix}

    def remove(self, owner_id: str, prefix: str) -> None:
        owned = self._prefixes[owner_id]
        if isinstance(owned, set):
            owned.remove(prefix)
        if not owned or owned == prefix:
            del self._prefixes[owner_id]

    def clear(self) -> None:
        self._prefixes.clear()


class PrefixCache:
    """Entries by key prefix. Not thread-safe: it belongs to one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        # The prefixes of each owner, so that what one does costs no look at what all the others have.
        self._owned = _Owned()
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
        if prefix not in self._entries and len(self._entries) >= self._capacity:
            self._evict()
        self._disown(prefix)
        self._entries[prefix] = entry
        if entry.credential is not None:
            self._owned.add(entry.credential.owner_id, prefix)

    def _remove(self, prefix: str) -> None:
        self._disown(prefix)
        self._entries.pop(prefix, None)

    def _disown(self, prefix: str) -> None:
        entry = self._entries.get(prefix)
        if entry is not None and entry.credential is not None:
            self._owned.remove(entry.credential.owner_id, prefix)

    def _evict(self) -> None:
        for _ in range(_CHANCES):
            oldest, entry = next(iter(self._entries.items()))
            if not entry.used:
                break
            entry.used = False
            self._entries.move_to_end(oldest)
        self._remove(next(iter(self._entries)))
        self.evictions += 1
