"""Strings that were made elsewhere, and whose keys were imported or created from a digest.

Mechanism: a filter in memory has the look-ups of all such keys, so that made-up strings are refused without
the database. It is read from the database once after each start, at the latest by the first string that may
be foreign. From then on it gets the look-ups that entries of the feed name: each import has an entry, which
this worker applies before the import is answered (R6). The rows are read by the rule for all rows that are
remembered (R5), so what the filter lacks is in an entry that was not applied yet. Deleted keys stay in it
until the next start.

What a look-up finds is remembered in the prefix cache, with the look-up as the prefix. That there is nothing
is remembered, too, until an entry names the look-up.

Bound: nine look-ups in the filter for each string, and none if nothing was imported. `LookUpFilter` has the
memory. One read of all look-ups at a time, in pages.

Failure: until the filter was read, a string that may be foreign is not known, and never NOT_FOUND.
"""

import asyncio
from array import array
from collections.abc import Collection, Sequence
from contextlib import suppress
from hmac import compare_digest
from typing import Protocol

from authsvc.model.credential import Credential
from authsvc.model.errors import RetryableError, Unavailable
from authsvc.model.feed import Place
from authsvc.model.key_string import ForeignString
from authsvc.model.look_up import MAX_FOREIGN_LENGTH, digest_of, is_foreign, look_ups_of
from authsvc.verify.look_up_filter import LookUpFilter
from authsvc.verify.prefix_cache import PrefixCache

# How often one page is read, when the node that answers is behind.
_MAX_READS = 3
# Look-ups that are added before other tasks run.
_AT_A_TIME = 1000


class LookUpStore(Protocol):
    """The stored look-ups."""

    async def list_look_ups(self, after: str) -> tuple[Sequence[str], str, Place]:
        """Return a page of look-ups, what the next one comes after ("" at the end), and the end of the feed.

        Raises RetryableError when the database cannot answer.
        """

    async def refresh(self) -> None:
        """Use new connections from now on."""


class AppliedFeed(Protocol):
    """The part of the feed that this worker has applied, as for `Loader`."""

    @property
    def seq(self) -> int:
        """The last applied entry."""

    async def knows(self, place: Place, since: int) -> bool:
        """Return whether a row that was read at `place` may be remembered; see Holder.knows."""


class ForeignStrings:
    """Knows which strings may be those of imported keys."""

    def __init__(self, cache: PrefixCache, store: LookUpStore, feed: AppliedFeed) -> None:
        self._cache = cache
        self._store = store
        self._feed = feed
        self._filter = LookUpFilter()
        self._is_read = False
        self._starts = 0
        self._reading: asyncio.Task[None] | None = None
        # What entries named while the filter is read.
        self._arrived: list[str] = []
        #: How often look-ups were added by entries of the feed.
        self.additions = 0

    @property
    def are_none(self) -> bool:
        """Whether nothing was imported, for certain."""
        return self._is_read and not len(self._filter)

    @property
    def count(self) -> int:
        """How many look-ups the filter has."""
        return len(self._filter)

    def start(self) -> None:
        """Begin anew at a place in the feed: what was imported before it has to be read."""
        self._is_read = False
        self._starts += 1

    async def warm(self) -> None:
        """Read what was imported, so that no caller has to wait for it, if that is possible now."""
        with suppress(RetryableError):
            await self.read()

    def apply(self, key_prefixes: Collection[str]) -> None:
        """Add the look-ups among the prefixes that an entry names, if they are new."""
        if look_ups := list(filter(is_foreign, key_prefixes)):
            if self._reading is not None:
                self._arrived += look_ups
            if self._filter.add(look_ups):
                self.additions += 1

    def prove(self, text: str, wrong: Collection[str] = ()) -> Credential | ForeignString | None:
        """Return the credential that memory has for exactly this string; None if it is none of ours.

        Returns the string with a look-up if the database has to be asked: for that look-up, or, without one,
        for the filter. Look-ups in `wrong` are those by which it was found to be wrong.
        """
        if len(text) > MAX_FOREIGN_LENGTH:
            return None
        if not self._is_read:
            return ForeignString("", text, text)
        digest = b""
        for look_up in filter(self._filter.__contains__, look_ups_of(text)):
            if look_up in wrong:
                continue
            entry = self._cache.get(look_up)
            if entry is None or not entry.digest:
                return ForeignString(look_up, text, text)
            digest = digest or self._cache.digest(text)
            if compare_digest(entry.digest, digest) and entry.credential is not None:
                return entry.credential
        return None

    def may_have_been(self, text: str) -> str:
        """Return the digest of a string if that was imported, now or earlier; "" otherwise."""
        digest = digest_of(text)
        return digest if digest in self._filter else ""

    async def read(self) -> None:
        """Read the look-ups of all imported keys, once for all who wait.

        Raises RetryableError when the database cannot answer.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._ended)
        await asyncio.shield(self._reading)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self._reading is task:
            self._reading = None
        if not task.cancelled():
            task.exception()  # Retrieve the error in case every caller has gone.

    async def _read(self) -> None:
        while not self._is_read:
            starts, after = self._starts, ""
            self._arrived = []
            hashes = array("q")
            while True:
                look_ups, after = await self._page(after)
                hashes.extend(map(hash, look_ups))
                if not after:
                    break
            known = LookUpFilter(len(hashes))
            for first in range(0, len(hashes), _AT_A_TIME):
                known.add_hashes(hashes[first : first + _AT_A_TIME])
                await asyncio.sleep(0)
            known.add(self._arrived)
            self._filter, self._arrived = known, []
            self._is_read = self._starts == starts

    async def _page(self, after: str) -> tuple[Sequence[str], str]:
        """Read a page such that it may be remembered (R5)."""
        for _ in range(_MAX_READS):
            since = self._feed.seq
            look_ups, next_after, place = await self._store.list_look_ups(after)
            if await self._feed.knows(place, since):
                return look_ups, next_after
            await self._store.refresh()
        raise Unavailable(
            "the database answers with data older than this worker has seen; retry",
            reason="DATABASE_BEHIND",
            retry_after=1,
        )
