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
    __slots__ = ("outdated", "prefix", "task")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.outdated = False
        self.task: asyncio.Task[Entry | None]


class PrefixCache:
    """Entries by key prefix. Not thread-safe: it belongs to one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[str, Entry] = OrderedDict()
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
            self._entries.pop(prefix, None)
        self._detach(lambda fill: fill.prefix in prefixes)

    def forget_owner(self, owner_id: str, kind: CredentialKind | None = None) -> None:
        """Drop all that is remembered of an owner, or what is of one kind, likewise.

        Looks at every entry, and detaches every fill: whose key it loads is not known yet.
        """
        self.changes += 1
        for prefix in [
            prefix
            for prefix, entry in self._entries.items()
            if (credential := entry.credential) is not None
            and credential.owner_id == owner_id
            and kind in (None, credential.kind)
        ]:
            del self._entries[prefix]
        self._detach(lambda fill: True)

    def clear(self) -> None:
        """Drop everything, likewise."""
        self.changes += 1
        self._entries.clear()
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
            if entry is not None and not fill.outdated:
                self._admit(fill.prefix, entry)
            return entry
        finally:
            if not fill.outdated:
                del self._fills[digest]

    def _admit(self, prefix: str, entry: Entry) -> None:
        if prefix not in self._entries and len(self._entries) >= self._capacity:
            self._evict()
        self._entries[prefix] = entry

    def _evict(self) -> None:
        for _ in range(_CHANCES):
            oldest, entry = next(iter(self._entries.items()))
            if not entry.used:
                break
            entry.used = False
            self._entries.move_to_end(oldest)
        self._entries.popitem(last=False)
        self.evictions += 1
