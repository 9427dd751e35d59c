"""Loading a key prefix that memory does not know: one row from the database, then one proof of the secret.

A look-up of a foreign string is loaded in the same way (`foreign_strings`). Once such a string is proved, its
hash is replaced by one of argon2id. A digest stays, because the key is found by it; see ADR 37.

Mechanism: the cache shares one load between all who present the same string. What was loaded is remembered,
unless a change concerns it meanwhile or the secret is wrong. An absent prefix is remembered, too.

Bound: callers of one owner have at most `max_loads_per_owner` loads under way, so that other owners find room
in the queues of the database and of argon2. The queues bound the callers of the platform.

Failure: a load that fails is not remembered, and the next call tries again. A hash that cannot be renewed
stays in use.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Protocol, TypeAlias

from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind, StoredCredential
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.feed import Place
from authsvc.model.key_string import ForeignString, KeyString
from authsvc.model.look_up import digest_of, is_digest
from authsvc.verify.entry import UNPROVED, Entry
from authsvc.verify.hasher import Hasher
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.session_digest import session_digest

_log = logging.getLogger(__name__)

_Load: TypeAlias = Callable[[], Awaitable[Entry | None]]

# How often one load reads the row, when the node that answers is behind.
_MAX_READS = 3


class CredentialStore(Protocol):
    """The stored credentials."""

    async def find_credential(self, key_prefix: str) -> tuple[StoredCredential | None, Place]:
        """Return the credential with this prefix, and the end of the feed in the same snapshot.

        Only the primary may answer that there is none. Raises RetryableError when the database cannot answer.
        """

    async def refresh(self) -> None:
        """Use new connections from now on."""

    async def replace_secret_hash(self, key_prefix: str, old: str, new: str) -> None:
        """Replace the hash of a secret, unless it is no longer `old`."""


class AppliedFeed(Protocol):
    """The part of the feed that this worker has applied."""

    @property
    def seq(self) -> int:
        """The last applied entry."""

    async def knows(self, place: Place, since: int) -> bool:
        """Return whether a row that was read at `place` may be remembered; see Holder.knows."""


class Loader:
    """Fills the cache from the database."""

    def __init__(
        self,
        *,
        cache: PrefixCache,
        hasher: Hasher,
        store: CredentialStore,
        feed: AppliedFeed,
        max_loads_per_owner: int,
    ) -> None:
        self._cache = cache
        self._hasher = hasher
        self._store = store
        self._feed = feed
        self._max_loads_per_owner = max_loads_per_owner
        self._loads: Counter[str] = Counter()  # under way, by owner of the caller

    async def load(self, key: KeyString, caller: Caller | None) -> Entry | None:
        """Return what the database says about a string; None when its secret is wrong.

        Raises Overloaded when too many loads are under way, and Unavailable when the database cannot answer.
        """
        digest = self._cache.digest(key.text)
        if isinstance(key, ForeignString):
            # A string may have several look-ups, and each is a fill of its own.
            fill = self._cache.digest(f"{key.prefix} {key.text}")
            return await self._shared(key.prefix, fill, caller, lambda: self._load_foreign(key, digest))
        return await self._shared(key.prefix, digest, caller, lambda: self._load(key, digest))

    async def load_unproved(self, key_prefix: str, caller: Caller | None) -> None:
        """Remember what the database says about a prefix, for a verification that is not shown the secret.

        Nothing is said about any key string: whoever presents one has to prove it. Raises what `load` raises.
        """
        # No key string is as short as a prefix, so the digest is that of no other fill.
        digest = self._cache.digest(key_prefix)
        await self._shared(key_prefix, digest, caller, lambda: self._load_unproved(key_prefix))

    async def _shared(
        self, key_prefix: str, digest: bytes, caller: Caller | None, load: _Load
    ) -> Entry | None:
        """Fill the cache, within the loads of the caller's owner."""
        owner_id = caller.confined_to if caller is not None else None
        if owner_id is None or self._cache.is_filling(digest):
            return await self._cache.fill(key_prefix, digest, load)
        if self._loads[owner_id] >= self._max_loads_per_owner:
            raise Overloaded(
                "too many unknown keys are being looked up for callers of this owner; retry after the delay "
                "in RetryInfo",
                reason="LOOK_UP_LIMIT",
                retry_after=0.5,
            )
        # Counted until the load ends, which may be after the caller has gone.
        self._loads[owner_id] += 1
        return await self._cache.fill(key_prefix, digest, lambda: self._load_for(owner_id, load))

    async def _load_for(self, owner_id: str, load: _Load) -> Entry | None:
        try:
            return await load()
        finally:
            self._loads[owner_id] -= 1
            if not self._loads[owner_id]:
                del self._loads[owner_id]

    async def _load(self, key: KeyString, digest: bytes) -> Entry | None:
        stored = await self._find(key.prefix)
        if stored is None:
            # Prefixes are never used again, so an absent prefix stays absent.
            return Entry(digest, None)
        if stored.credential.kind is CredentialKind.SESSION:
            # SHA-256 is enough for the secret of a session, and has no cost to renew; see ADR 10.
            is_right = compare_digest(session_digest(key.secret), stored.secret_hash)
            return Entry(digest, stored.credential) if is_right else None
        if not await self._hasher.verify(key.secret, stored.secret_hash):
            return None
        if self._hasher.is_outdated(stored.secret_hash, stored.secret_origin):
            await self._renew_hash(key, stored)
        return Entry(digest, stored.credential)

    async def _load_foreign(self, key: ForeignString, digest: bytes) -> Entry | None:
        stored = await self._find(key.prefix)
        if stored is None:
            # Until it is imported: then an entry of the feed names it.
            return Entry(digest, None)
        if is_digest(key.prefix):
            is_right = compare_digest(digest_of(key.text), stored.secret_hash)
            return Entry(digest, stored.credential) if is_right else None
        if not await self._hasher.verify_foreign(key.prefix, key.text, stored.secret_hash):
            return None
        if self._hasher.is_outdated(stored.secret_hash, stored.secret_origin):
            await self._renew_hash(key, stored)
        return Entry(digest, stored.credential)

    async def _load_unproved(self, key_prefix: str) -> Entry:
        stored = await self._find(key_prefix)
        return Entry(UNPROVED, None if stored is None else stored.credential)

    async def _renew_hash(self, key: KeyString, stored: StoredCredential) -> None:
        try:
            renewed = await self._hasher.hash(key.secret, stored.secret_origin)
            await self._store.replace_secret_hash(key.prefix, stored.secret_hash, renewed)
        except Exception as error:  # noqa: BLE001 - the key is proved; the next load tries again
            _log.warning(
                "the hash of key %s could not be renewed: %s",
                stored.credential.credential_id,
                type(error).__name__,
            )

    async def _find(self, key_prefix: str) -> StoredCredential | None:
        """Read the row such that it may be remembered: this worker has applied all changes it contains (R5).

        A change that is applied later detaches the fill from the cache.
        """
        for _ in range(_MAX_READS):
            since = self._feed.seq
            stored, place = await self._store.find_credential(key_prefix)
            if await self._feed.knows(place, since):
                return stored
            await self._store.refresh()
        raise Unavailable(
            "the database answers with data older than this worker has seen; retry",
            reason="DATABASE_BEHIND",
            retry_after=1,
        )
