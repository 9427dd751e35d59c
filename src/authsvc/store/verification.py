"""The credentials that verification reads. Implements a protocol of `verify`."""

import json
from collections.abc import Mapping, Sequence
from sys import intern
from types import MappingProxyType
from typing import TypeAlias

import asyncpg

from authsvc.model.activity import Activity
from authsvc.model.credential import ALWAYS, Credential, CredentialKind, StoredCredential
from authsvc.model.feed import Place
from authsvc.model.look_up import is_foreign
from authsvc.model.policy import OwnerPolicy
from authsvc.store.driver_errors import raise_on_warning
from authsvc.store.pool import Database
from authsvc.store.queries import load_queries
from authsvc.store.restriction import allowed_networks, disabled_until, rate_limits
from authsvc.store.shared_statement import SharedStatement

_SQL = load_queries("verification.sql")
# The characters of all lists of scopes that are shared between credentials, with an overhead for each item.
_MAX_SHARED_LENGTH = 4_000_000
_OVERHEAD_LENGTH = 64
#: How many look-ups may wait.
MAX_WAITING_LOOK_UPS = 1000
# Look-ups that are read at a time.
_PAGE = 20_000
Found: TypeAlias = tuple[StoredCredential | None, Place]
_NO_LIMITS = OwnerPolicy()
_NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})


class VerificationStore:
    """Implements `CredentialStore`. Each statement is a transaction of its own."""

    def __init__(self, database: Database, default_policy: OwnerPolicy = _NO_LIMITS) -> None:
        self._database = database
        self._default_policy = default_policy
        self._finding = SharedStatement(
            self._find, max_waiting=MAX_WAITING_LOOK_UPS, full="too many keys are being looked up"
        )
        self._scopes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._shared_length = 0

    async def find_credential(self, key_prefix: str) -> Found:
        """Return the credential with this prefix, and the end of the feed in the same snapshot.

        Look-ups that arrive while one is under way share the next statement. This matters after a cold start,
        when every key is looked up. Each look-up is answered by a statement that was sent after it arrived.
        Raises Overloaded when too many look-ups wait.
        """
        return await self._finding.ask(key_prefix)

    async def list_look_ups(self, after: str) -> tuple[Sequence[str], str, Place]:
        """Return a page of the look-ups of imported keys, and the end of the feed in the same snapshot.

        The second value is what the next page comes after; "" at the end.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["list_look_ups"], after, _PAGE)
        look_ups = [row["key_prefix"] for row in rows if row["key_prefix"] is not None]
        last = rows[-1]["key_id"] if len(look_ups) == _PAGE else ""
        return look_ups, last, Place(rows[0]["seq"], rows[0]["nonce"])

    async def refresh(self) -> None:
        """Use new connections from now on."""
        await self._database.refresh()

    async def _find(self, prefixes: Sequence[str]) -> list[Found]:
        wanted = set(prefixes)
        async with self._database.connection() as connection:
            rows = await connection.fetch(_SQL["find_credentials"], list(wanted))
            found = {row["key_prefix"]: self._credential(row) for row in rows if row["key_prefix"]}
            if len(found) < len(wanted):
                # Absence is remembered, so a primary that was replaced must not be the one to report it.
                with raise_on_warning(connection):
                    await connection.execute(_SQL["prove_primary"])
        place = Place(rows[0]["seq"], rows[0]["nonce"])
        return [(found.get(prefix), place) for prefix in prefixes]

    def _credential(self, row: asyncpg.Record) -> StoredCredential:
        last = row["last_activity_time"]
        credential = Credential(
            kind=CredentialKind(row["kind"]),
            disabled_until=disabled_until(row, self._default_policy),
            networks=allowed_networks(row),
            limits=rate_limits(row),
            activity=None if last is None else Activity(last, row["idle_timeout"]),
            credential_id=row["credential_id"],
            owner_id=row["owner_id"],
            scopes=self._shared(tuple(map(intern, row["scopes"]))),
            expire_time=row["expire_time"],
            revoke_time=ALWAYS if row["revoked_at_once"] else row["revoke_time"],
            look_up=row["key_prefix"] if is_foreign(row["key_prefix"]) else "",
            annotations={intern(name): value for name, value in json.loads(row["annotations"]).items()}
            or _NO_ANNOTATIONS,
        )
        return StoredCredential(credential, row["secret_hash"], row["secret_origin"])

    def _shared(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Return an equal tuple that is shared with other credentials, because many have the same scopes."""
        shared = self._scopes.setdefault(scopes, scopes)
        if shared is scopes:
            self._shared_length += _OVERHEAD_LENGTH * (1 + len(scopes)) + sum(map(len, scopes))
            if self._shared_length > _MAX_SHARED_LENGTH:
                self._scopes, self._shared_length = {}, 0
        return shared

    async def replace_secret_hash(self, key_prefix: str, old: str, new: str) -> None:
        """Replace the hash of a secret, unless it is no longer `old`."""
        async with self._database.connection() as connection:
            await connection.execute(_SQL["replace_secret_hash"], key_prefix, old, new)
