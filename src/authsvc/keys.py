"""The life of keys: check the caller, do it, make it known.

Each use case takes the caller first, so that no transport gets round the check.
Each change runs in one transaction, and what verification has to know of it is known to
every worker before the answer: see `barrier`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from authsvc.barrier import Barrier
from authsvc.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    NotFound,
    Unauthenticated,
)
from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER, Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.identifier import new_identifier
from authsvc.model.key import Key, KeyState
from authsvc.model.key_query import KeyQuery
from authsvc.model.key_string import KeyMint, KeyString
from authsvc.model.new_key import NewKey, checked_expire_time
from authsvc.model.page_token import PageTokens
from authsvc.model.scope import FULL_ACCESS
from authsvc.store import key_list
from authsvc.store import keys as rows
from authsvc.store.pool import Connection, Database
from authsvc.verify.hasher import MINTED, Hasher
from authsvc.verify.verifier import Verifier

# Fields of a key that verification does not look at: changing them is nobody else's business.
_UNSEEN = frozenset({"display_name", "description", "technical_contacts"})

# How many keys BatchRevokeKeys shows of an owner who may have very many.
SHOWN = 1000


class Keys:
    """The use cases of KeyService, but for verification, which is the Verifier's."""

    def __init__(
        self,
        *,
        database: Database,
        barrier: Barrier,
        verifier: Verifier,
        hasher: Hasher,
        mint: KeyMint,
        page_tokens: PageTokens,
        clock: Callable[[], datetime],
        brand: str,
        catalogue: Catalogue,
    ) -> None:
        self._database = database
        self._barrier = barrier
        self._verifier = verifier
        self._hasher = hasher
        self._mint = mint
        self._page_tokens = page_tokens
        self._clock = clock
        self._brand = brand
        self._catalogue = catalogue

    async def create(self, caller: Caller, new: NewKey, request_id: str = "") -> tuple[Key, KeyString]:
        """Mint a key for an owner; this is the only time that its key string is told (rule 1)."""
        caller.refuse_other_owner(new.owner_id)
        self._catalogue.check_grant(caller, new.scopes)
        now = self._clock()
        minted = self._mint.mint(new.brand or self._brand, new.environment or "live")
        key = Key(
            key_id=new_identifier("key", now),
            owner_id=new.owner_id,
            key_prefix=minted.prefix,
            display_name=new.display_name,
            description=new.description,
            scopes=tuple(sorted(new.scopes)),
            technical_contacts=new.technical_contacts,
            annotations=new.annotations,
            create_time=now,
            creator_id=caller.credential_id,
            update_time=now,
            expire_time=new.expire_time(now),
        )
        secret_hash = await self._hasher.hash(minted.secret, MINTED)
        async with self._database.transaction() as connection:
            await rows.share_owner(connection, key.owner_id)
            await self._insert(connection, key, secret_hash, request_id)
        return key, minted

    async def get(self, caller: Caller, key_id: str) -> Key:
        """Return a key."""
        async with self._database.connection() as connection:
            found = await rows.find(connection, [key_id])
        return self._visible(caller, [key_id], found)[0]

    async def list(
        self, caller: Caller, query: KeyQuery, *, page_size: int, page_token: str, with_total: bool
    ) -> tuple[Sequence[Key], str, int]:
        """Return a page of keys, the token of the next page ("" on the last), and the total if asked for."""
        caller.refuse_other_owner(query.owner_id)
        after = self._page_tokens.open(query, page_token) if page_token else None
        now = self._clock()
        async with self._database.transaction() as connection:
            total = await key_list.count(connection, query, now=now) if with_total else 0
            # One more than asked for tells whether there is a next page.
            found = await key_list.page(connection, query, now=now, size=page_size + 1, after=after)
        page = found[:page_size]
        if len(found) == len(page):
            return page, "", total
        last = page[-1]
        return page, self._page_tokens.seal(query, query.position(last, rows.fold(last.display_name))), total

    async def update(self, caller: Caller, key_id: str, fields: Mapping[str, object], etag: str) -> Key:
        """Change the given fields of a key that is not revoked (rule 8)."""
        now = self._clock()
        if isinstance(expire_time := fields.get("expire_time"), datetime):
            checked_expire_time("key.expire_time", expire_time, now)
        seen = not _UNSEEN.issuperset(fields)
        async with self._change(caller, [key_id], seen=seen) as (connection, [key]):
            if etag and etag != key.etag:
                raise Conflict(
                    f"key {key_id} was changed since it was read; get it again and repeat the change",
                    reason="ETAG_MISMATCH",
                )
            key.refuse_if_revoked(now)
            added = set(_scopes(fields, key)) - set(key.scopes)
            self._catalogue.check_grant(caller, sorted(added), path="key.scopes")
            changed = key.changed(now, **fields)
            await rows.update(connection, [changed])
        return changed

    async def rotate(
        self, caller: Caller, key_id: str, grace_period: timedelta, request_id: str = ""
    ) -> tuple[Key, KeyString]:
        """Replace an active key; the old one works until the grace period ends (rule 30)."""
        now = self._clock()
        before = await self.get(caller, key_id)
        brand, environment, _ = before.key_prefix.split("_")
        minted = self._mint.mint(brand, environment)
        secret_hash = await self._hasher.hash(minted.secret, MINTED)
        new_id = new_identifier("key", now)
        done = f"rotated to {new_id}, whose key string is lost with this answer (rotate it, too)"
        changing = self._change(caller, [key_id], done=done, adding_to=before.owner_id)
        async with changing as (connection, [old]):
            if request_id and (made := await rows.find_request(connection, old.owner_id, request_id)):
                raise _repeated(request_id, made)
            old.refuse_to_rotate(now)
            # Who rotates learns the new key string, and with it all that the key may do.
            self._catalogue.check_held(caller, old.scopes)
            key = Key(
                key_id=new_id,
                owner_id=old.owner_id,
                key_prefix=minted.prefix,
                display_name=old.display_name,
                description=old.description,
                scopes=old.scopes,
                technical_contacts=old.technical_contacts,
                annotations=old.annotations,
                create_time=now,
                creator_id=caller.credential_id,
                update_time=now,
                expire_time=None if old.expire_time is None else now + (old.expire_time - old.create_time),
                rotated_from_key_id=old.key_id,
            )
            await self._insert(connection, key, secret_hash, request_id)
            at, by = now + grace_period, caller.credential_id
            await rows.update(connection, [old.replaced(now, at=at, by=by, successor_id=key.key_id)])
        return key, minted

    async def revoke(self, caller: Caller, key_id: str, *, reason: str, revoke_in: timedelta) -> Key:
        """Revoke a key for good, now or later (rules 14 to 17)."""
        now = self._clock()
        async with self._change(caller, [key_id], done="revoked") as (connection, [key]):
            revoked = key.revoked(now, at=now + revoke_in, by=caller.credential_id, reason=reason)
            await rows.update(connection, [revoked])
        return revoked

    async def revoke_batch(
        self, caller: Caller, key_ids: Sequence[str], *, reason: str
    ) -> tuple[Sequence[Key], int]:
        """Revoke these keys now, all or none; return them, and how many were not revoked before."""
        now = self._clock()
        async with self._change(caller, key_ids, done="revoked") as (connection, keys):
            revoked = {
                key.key_id: key.revoked(now, at=now, by=caller.credential_id, reason=reason)
                for key in keys
                if key.state(now) is not KeyState.REVOKED
            }
            await rows.update(connection, revoked.values())
        return [revoked.get(key.key_id, key) for key in keys], len(revoked)

    async def revoke_owner(self, caller: Caller, owner_id: str, *, reason: str) -> tuple[Sequence[Key], int]:
        """Revoke all keys of an owner now; return the first of them, and how many there were."""
        caller.refuse_other_owner(owner_id)
        async with self._barrier.change(caller, "revoked") as change:
            revoked = await rows.revoke_owner(
                change.connection, owner_id, at=self._clock(), by=caller.credential_id, reason=reason
            )
            if 0 < len(revoked) <= SHOWN:
                change.key_prefixes.update(revoked.values())
            else:  # Very many; or none, and those of an earlier call may not have been waited for (R7).
                change.owner_id = owner_id
            shown = await rows.find(change.connection, sorted(revoked)[:SHOWN])
        return [shown[key_id] for key_id in sorted(shown)], len(revoked)

    async def delete(self, caller: Caller, key_ids: Sequence[str]) -> None:
        """Delete keys whose revocation has taken effect, all or none (rule 18)."""
        now = self._clock()
        async with self._change(caller, key_ids, done="deleted") as (connection, keys):
            alive = [key.key_id for key in keys if key.state(now) is not KeyState.REVOKED]
            if alive:
                raise FailedPrecondition(
                    f"{_listed(alive)} not revoked yet; revoke first, then delete",
                    reason="KEY_NOT_REVOKED",
                    key_ids=",".join(alive),
                )
            await rows.delete(connection, key_ids)

    async def look_up(self, caller: Caller, key_string: str) -> Key:
        """Return the key whose very string this is, whatever its state."""
        credential = await self._verifier.identify(key_string)
        async with self._database.connection() as connection:
            found = await rows.find(connection, [credential.credential_id] if credential else [])
        for key in found.values():
            if caller.acts_on(key.owner_id):
                return key
        raise NotFound("no key has this key string", reason="KEY_NOT_FOUND")

    async def ensure_administrator(
        self, *, another: bool = False, display_name: str = "administrator", ttl: timedelta | None = None
    ) -> KeyString | None:
        """Mint the platform's administrator key when no working one is left, or another if asked for.

        Of several who do so at once one mints, and the others see its key.
        """
        async with self._database.transaction() as connection:
            await rows.alone_for_administrator(connection)
            exists = await rows.has_active_owner_key(connection, PLATFORM_OWNER, FULL_ACCESS, self._clock())
            if exists and not another:
                return None
            administrator = NewKey(
                owner_id=PLATFORM_OWNER,
                display_name=display_name,
                scopes=(FULL_ACCESS,),
                expiration=ExpirationPreset.UNLIMITED if ttl is None else ttl,
            )
            _, minted = await self.create(BOOTSTRAP, administrator)
        return minted

    @asynccontextmanager
    async def _change(
        self,
        caller: Caller,
        key_ids: Sequence[str],
        *,
        done: str = "changed",
        adding_to: str = "",
        seen: bool = True,
    ) -> AsyncIterator[tuple[Connection, Sequence[Key]]]:
        """Lend locked keys, in the order asked for; at the end, no worker acts on what they were before.

        Who adds a key to an owner says so, since the owner is locked before its keys. A
        change that is not `seen` by verification waits for nobody.
        """
        async with self._barrier.change(caller, done) as change:
            if adding_to:
                await rows.share_owner(change.connection, adding_to)
            found = await rows.lock(change.connection, key_ids, owner_id=caller.confined_to)
            if seen:
                change.key_prefixes.update(key.key_prefix for key in found.values())
            yield change.connection, self._visible(caller, key_ids, found)

    def _visible(self, caller: Caller, key_ids: Sequence[str], found: Mapping[str, Key]) -> Sequence[Key]:
        """Return the keys in order; raise NotFound for those unknown or another owner's (rule 19)."""
        unknown = [i for i in key_ids if i not in found or not caller.acts_on(found[i].owner_id)]
        if unknown:
            raise NotFound(f"{_listed(unknown)} not known", reason="KEY_NOT_FOUND", key_ids=",".join(unknown))
        return [found[key_id] for key_id in key_ids]

    async def _insert(self, connection: Connection, key: Key, secret_hash: str, request_id: str) -> None:
        # Who was revoked while this waited, with all keys of the owner, adds none.
        if await rows.is_revoked(connection, key.creator_id, self._clock()):
            raise Unauthenticated(
                "the credential in the authorization header was revoked meanwhile",
                reason="CREDENTIAL_REVOKED",
            )
        if not await rows.insert(
            connection, key, secret_hash=secret_hash, secret_origin=MINTED, request_id=request_id
        ):
            raise _repeated(request_id, await rows.find_request(connection, key.owner_id, request_id))


def _repeated(request_id: str, key_id: str | None) -> AlreadyExists:
    return AlreadyExists(
        f"request_id {request_id!r} made key {key_id} before; its key string cannot be shown again",
        reason="REQUEST_REPEATED",
        key_id=key_id or "",
    )


def _scopes(fields: Mapping[str, object], key: Key) -> tuple[str, ...]:
    scopes = fields.get("scopes", key.scopes)
    return scopes if isinstance(scopes, tuple) else ()


def _listed(key_ids: Sequence[str]) -> str:
    named = ", ".join(key_ids[:5]) + (f" and {len(key_ids) - 5} more" if len(key_ids) > 5 else "")
    return f"key {named} is" if len(key_ids) == 1 else f"keys {named} are"
