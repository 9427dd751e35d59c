"""parse → cache → proof → decide.

A hit touches memory only and does not await, so that any transport can ask. See
the package's docstring for the mechanism and its bounds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from hmac import compare_digest
from typing import Protocol

from authsvc.errors import Passing
from authsvc.model.caller import Caller
from authsvc.model.credential import Credential, StoredCredential
from authsvc.model.key_string import MAX_LENGTH, TAIL_LENGTH, KeyMint, KeyString
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode, decide
from authsvc.verify.hasher import Hasher
from authsvc.verify.prefix_cache import Entry, PrefixCache
from authsvc.verify.usage import UsageLog


class CredentialStore(Protocol):
    """What the verifier needs of the database."""

    async def find_credential(self, key_prefix: str) -> StoredCredential | None:
        """Return the credential with this prefix; raise Passing when it cannot be known now."""

    async def replace_secret_hash(self, key_prefix: str, old: str, new: str) -> None:
        """Replace a secret's hash, unless somebody else has."""


class Verifier:
    """Says what a presented credential is worth."""

    def __init__(
        self,
        *,
        mint: KeyMint,
        cache: PrefixCache,
        hasher: Hasher,
        store: CredentialStore,
        usage: UsageLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._mint = mint
        self._cache = cache
        self._hasher = hasher
        self._store = store
        self._usage = usage
        self._clock = clock
        # How many verdicts of each kind there were; plain numbers, for the hot path's sake.
        self.counts = dict.fromkeys(VerdictCode, 0)

    def recall(
        self, caller: Caller, presented: str, required_scopes: Sequence[str] = (), client_ip: str = ""
    ) -> Verdict | None:
        """Return the verdict from memory alone, without an await; None when `verify` has to look further."""
        proved = self._prove_from_memory(presented)
        if isinstance(proved, KeyString):
            return None
        return self._judge(caller, proved, required_scopes, client_ip)

    async def verify(
        self, caller: Caller, presented: str, required_scopes: Sequence[str] = (), client_ip: str = ""
    ) -> Verdict:
        """Return the verdict on what was presented, for this caller. A VALID one counts as a use (rule 23).

        Raises Overloaded or Unavailable when it cannot be known now.
        """
        return self._judge(caller, await self.identify(presented), required_scopes, client_ip)

    async def verify_all(
        self, caller: Caller, asked: Sequence[tuple[str, Sequence[str], str]]
    ) -> list[Verdict]:
        """Return a verdict for each (presented, required_scopes, client_ip), in order.

        What memory does not know is looked up side by side; then all are judged at
        one instant. Raises for all what `verify` raises for one.
        """
        cold = {text for text, _, _ in asked if isinstance(self._prove_from_memory(text), KeyString)}
        found = dict(zip(cold, await asyncio.gather(*map(self.identify, cold)), strict=True)) if cold else {}
        return [
            self.recall(caller, text, scopes, client_ip)
            or self._judge(caller, found.get(text), scopes, client_ip)
            for text, scopes, client_ip in asked
        ]

    def authenticate(self, presented: str, client_ip: str) -> Verdict | Awaitable[Verdict]:
        """Return the verdict on our caller's own credential: at once from memory, or to be awaited."""
        proved = self._prove_from_memory(presented)
        if isinstance(proved, KeyString):
            return self._authenticate_cold(proved, client_ip)
        return self._judge(None, proved, (), client_ip)

    async def identify(self, presented: str) -> Credential | None:
        """Return the credential whose very string this is, whatever its state; not counted as a use."""
        proved = self._prove_from_memory(presented)
        return await self._fill(proved) if isinstance(proved, KeyString) else proved

    def forget(self, key_prefixes: Collection[str]) -> None:
        """Make a committed change known: the one place through which verification learns of it."""
        self._cache.forget(key_prefixes)

    def _prove_from_memory(self, presented: str) -> Credential | KeyString | None:
        """Return the proved credential, None for a stranger, or the parts of a string yet to be proved.

        A digest that equals the proved string's needs no second look at form and
        tag; one that differs is a wrong secret, at the same price (rule 21).
        """
        if len(presented) > MAX_LENGTH:
            return None
        entry = self._cache.get(presented[:-TAIL_LENGTH])
        if entry is None:
            return self._mint.parse(presented)
        if compare_digest(entry.digest, self._cache.digest(presented)):
            return entry.credential
        return None

    def _judge(
        self, caller: Caller | None, credential: Credential | None, required: Sequence[str], client_ip: str
    ) -> Verdict:
        """Decide last, with no await between this and the answer."""
        if credential is None or (caller is not None and not caller.acts_on(credential.owner_id)):
            self.counts[VerdictCode.NOT_FOUND] += 1
            return NOT_FOUND
        now = self._clock()
        verdict = decide(credential, required, now)
        if verdict.code is VerdictCode.VALID:
            self._usage.note(credential.credential_id, now, client_ip)
        self.counts[verdict.code] += 1
        return verdict

    async def _authenticate_cold(self, key: KeyString, client_ip: str) -> Verdict:
        return self._judge(None, await self._fill(key), (), client_ip)

    async def _fill(self, key: KeyString) -> Credential | None:
        digest = self._cache.digest(key.text)
        entry = await self._cache.fill(key.prefix, digest, lambda: self._load(key, digest))
        return None if entry is None else entry.credential

    async def _load(self, key: KeyString, digest: bytes) -> Entry | None:
        stored = await self._store.find_credential(key.prefix)
        if stored is None:
            # Prefixes are never used again, so what is absent stays absent.
            return Entry(digest, None)
        if not await self._hasher.verify(key.secret, stored.secret_hash):
            return None
        if self._hasher.is_outdated(stored.secret_hash, stored.secret_origin):
            with suppress(Passing):  # The next cold start tries again.
                renewed = await self._hasher.hash(key.secret, stored.secret_origin)
                await self._store.replace_secret_hash(key.prefix, stored.secret_hash, renewed)
        return Entry(digest, stored.credential)
