"""GetKey, ListKeys, LookupKey."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from authsvc.keys.change import visible
from authsvc.model.caller import Caller
from authsvc.model.errors import NotFound
from authsvc.model.key import Key
from authsvc.model.key_query import KeyQuery
from authsvc.model.page import Page
from authsvc.model.page_token import PageTokens
from authsvc.model.text import folded
from authsvc.store import key_list
from authsvc.store import keys as key_store
from authsvc.store.pool import Database
from authsvc.verify.verifier import Verifier


class KeyReads(Protocol):
    """Reads keys."""

    _database: Database
    _verifier: Verifier
    _page_tokens: PageTokens
    _clock: Callable[[], datetime]

    async def get(self, caller: Caller, key_id: str) -> Key:
        """Return a key.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner (rule 19).
        """
        async with self._database.connection() as connection:
            found = await key_store.find(connection, [key_id], owner_id=caller.confined_to)
        return visible(caller, [key_id], found)[0]

    async def list(
        self, caller: Caller, query: KeyQuery, *, page_size: int, page_token: str, with_total: bool
    ) -> tuple[Page[Key], int]:
        """Return a page of an owner's keys, and the total.

        The total counts all keys that match the query; it is 0 unless `with_total`.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
            InvalidArgument: INVALID_FIELD, if `page_token` was issued for another query or is too old.
        """
        caller.refuse_other_owner(query.owner_id)
        after = self._page_tokens.open(query, page_token) if page_token else None
        now = self._clock()
        async with self._database.listing(caller.quota_owner, in_transaction=True) as connection:
            total = await key_list.count(connection, query, now=now) if with_total else 0
            page, more = await key_list.page(connection, query, now=now, size=page_size, after=after)

        def seal(last: Key) -> str:
            return self._page_tokens.seal(query, query.position(last, folded(last.display_name)))

        return Page(page, more, seal), total

    async def look_up(self, caller: Caller, key_string: str) -> Key:
        """Return the key that has this key string, in any state. This does not count as a use.

        Raises:
            NotFound: KEY_NOT_FOUND, if there is no such key or it is of another owner.
            Overloaded: LOOK_UP_LIMIT or HASHER_QUEUE_FULL, if too many key strings are being proved.
            Unavailable: DATABASE_BEHIND, if the database answers from an older state than this worker has
                seen; PROOF_UNREADABLE, if the stored hash is damaged.
        """
        credential = await self._verifier.identify(key_string, caller)
        async with self._database.connection() as connection:
            found = await key_store.find(connection, [credential.credential_id] if credential else [])
        for key in found.values():
            if caller.acts_on(key.owner_id):
                return key
        raise NotFound("no key has this key string", reason="KEY_NOT_FOUND")
