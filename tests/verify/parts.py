"""A verifier as the tests build it: real parts, and hand-written stores that count, pause and fail."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf
from typing import Any, Self, TypeVar
from uuid import UUID

from argon2 import PasswordHasher

from authsvc.model.activity import Activity
from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.credential import Credential, CredentialKind, StoredCredential
from authsvc.model.feed import Place
from authsvc.model.key_string import SESSION, KeyMint, KeyString
from authsvc.model.key_use import KeyUse
from authsvc.model.use import Use
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.verify.hasher import IMPORTED, MINTED, Hasher
from authsvc.verify.key_uses import KeyUseLog
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.session_digest import session_digest
from authsvc.verify.usage import UsageLog
from authsvc.verify.verifier import Question, Verifier
from tests.conftest import Clock

T = TypeVar("T")

ACME = Caller("key_caller", "acme", ("keys:verify",))
GLOBEX = Caller("key_other", "globex", ("keys:verify",))
PLATFORM = Caller("key_platform", PLATFORM_OWNER, ("keys:verify",))

COSTS = {
    MINTED: PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1),
    IMPORTED: PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),
}


class Pause:
    """A point where callers stop until the test lets them continue."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def here(self) -> None:
        self._reached.set()
        await self._opened.wait()

    async def reached(self) -> None:
        await self._reached.wait()

    def open(self) -> None:
        self._opened.set()


class FakeHistory:
    """A feed that has applied everything, unless a test says otherwise."""

    def __init__(self) -> None:
        self.seq = 0
        self.known: list[bool] = []

    async def knows(self, place: Place, since: int) -> bool:
        return self.known.pop(0) if self.known else True


class FakeCredentialStore:
    """Credentials by prefix. A paused lookup returns what was true before the pause."""

    place = Place(0, UUID(int=0))

    def __init__(self, activities: "FakeActivityStore") -> None:
        self.refreshes = 0
        self.rows: dict[str, StoredCredential] = {}
        self.finds: list[str] = []
        self.replacements: list[tuple[str, str, str]] = []
        self.fault: BaseException | None = None
        self.replacement_fault: BaseException | None = None
        self.pauses: dict[str, Pause] = {}
        self.activities = activities

    async def refresh(self) -> None:
        self.refreshes += 1

    async def find_credential(self, key_prefix: str) -> tuple[StoredCredential | None, Place]:
        self.finds.append(key_prefix)
        found, fault = self._read(key_prefix), self.fault
        if pause := self.pauses.get(key_prefix):
            await pause.here()
        if fault is not None:
            raise fault
        return found, self.place

    def _read(self, key_prefix: str) -> StoredCredential | None:
        """Return a row; a session has the activity that is recorded by now, as a separate copy."""
        found = self.rows.get(key_prefix)
        if found is None or found.credential.activity is None:
            return found
        activity = Activity(*self.activities.rows[found.credential.credential_id])
        return replace(found, credential=replace(found.credential, activity=activity))

    async def replace_secret_hash(self, key_prefix: str, old: str, new: str) -> None:
        self.replacements.append((key_prefix, old, new))
        if self.replacement_fault is not None:
            raise self.replacement_fault
        row = self.rows[key_prefix]
        assert row.secret_hash == old
        self.rows[key_prefix] = StoredCredential(row.credential, new, row.secret_origin)

    def pause(self, key_prefix: str) -> Pause:
        self.pauses[key_prefix] = Pause()
        return self.pauses[key_prefix]


class PausingHasher(Hasher):
    """A hasher that stops before a proof when told to."""

    pause: Pause | None = None

    async def verify(self, secret: str, secret_hash: str) -> bool:
        if self.pause is not None:
            await self.pause.here()
        return await super().verify(secret, secret_hash)


class Job:
    """Work for a hasher that occupies one of its threads until the test ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started = asyncio.Event()
        self._end = threading.Event()

    def __call__(self) -> str:
        self._loop.call_soon_threadsafe(self._started.set)
        self._end.wait()
        return "done"

    async def started(self) -> None:
        await self._started.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """End it, also if the test fails: the pool waits for its threads."""
        self._end.set()


class FakeActivityStore:
    """The recorded activity of sessions: by id, the last one and the idle timeout."""

    refused = 0

    def __init__(self) -> None:
        self.rows: dict[str, tuple[datetime, timedelta]] = {}
        self.over: set[str] = set()
        self.asked: list[str] = []
        self.fault: BaseException | None = None

    async def find_activity(self, session_id: str, now: datetime) -> datetime | None:
        self.asked.append(f"find {session_id}")
        if self.fault is not None:
            raise self.fault
        if session_id not in self.rows:
            return None
        last, timeout = self.rows[session_id]
        if last + timeout <= now:
            self.over.add(session_id)
        return None if session_id in self.over else last

    async def record_activity(self, use: Use) -> datetime | None:
        self.asked.append(f"record {use.credential_id}")
        if self.fault is not None:
            raise self.fault
        if use.credential_id in self.over or use.credential_id not in self.rows:
            return None
        last, timeout = self.rows[use.credential_id]
        self.rows[use.credential_id] = max(last, use.time), timeout
        return max(last, use.time)

    async def record_uses(self, uses: Sequence[Use]) -> None:
        if self.fault is not None:
            raise self.fault
        for use in uses:
            last, timeout = self.rows[use.credential_id]
            if last < use.time and use.credential_id not in self.over:
                self.rows[use.credential_id] = use.time, timeout


def ask(
    caller: Caller,
    required_scopes: Sequence[str] = (),
    client_ip: str = "",
    kind: CredentialKind = CredentialKind.KEY,
) -> Question:
    """Return a caller's question about a key."""
    return Question(kind, caller, required_scopes, client_ip)


class FakeUseStore:
    """Stores each batch that it is given, or fails, or pauses."""

    refused = 0

    def __init__(self) -> None:
        self.batches: list[list[Use]] = []
        self.counts: list[KeyUse] = []
        self.faults: list[BaseException | None] = []
        self.pause: Pause | None = None

    async def record_uses(self, uses: Sequence[Use]) -> None:
        if self.pause is not None:
            await self.pause.here()
        if self.faults and (fault := self.faults.pop(0)) is not None:
            raise fault
        self.batches.append(list(uses))

    async def record_key_uses(self, uses: Sequence[KeyUse]) -> None:
        """Store the counts, and the last use of each key."""
        latest: dict[str, Use] = {}
        for use in sorted(uses, key=lambda use: use.last_use_time):
            latest[use.key_id] = Use(use.key_id, use.last_use_time, use.client_ip)
        await self.record_uses(list(latest.values()))
        self.counts += uses

    @property
    def uses(self) -> list[Use]:
        return [use for batch in self.batches for use in batch]


@dataclass
class Parts:
    """A verifier and its parts."""

    clock: Clock
    mint: KeyMint
    cache: PrefixCache
    hasher: PausingHasher
    store: FakeCredentialStore
    use_store: FakeUseStore
    usage: KeyUseLog
    lease: Lease
    feed: FakeHistory
    activities: FakeActivityStore
    activity: UsageLog
    issued: int = 0

    def __post_init__(self) -> None:
        self.verifier = Verifier(
            mint=self.mint,
            cache=self.cache,
            hasher=self.hasher,
            store=self.store,
            usage=self.usage,
            activities=self.activities,
            activity=self.activity,
            lease=self.lease,
            feed=self.feed,
            clock=self.clock,
        )

    def issue(
        self,
        *,
        owner_id: str = "acme",
        scopes: tuple[str, ...] = (),
        expire_time: datetime | None = None,
        revoke_time: datetime | None = None,
        cost: str = MINTED,
        origin: str = MINTED,
    ) -> KeyString:
        """Add a new key to the store and return its key string."""
        key = self.mint.mint("eg", "live")
        self.issued += 1
        credential = Credential(
            f"key_{self.issued}", owner_id, scopes, expire_time, revoke_time, {"team": "orders"}
        )
        self.store.rows[key.prefix] = StoredCredential(credential, COSTS[cost].hash(key.secret), origin)
        return key

    def open_session(
        self,
        *,
        owner_id: str = "acme",
        scopes: tuple[str, ...] = (),
        idle_timeout: timedelta = timedelta(minutes=30),
        lifetime: timedelta = timedelta(days=30),
    ) -> KeyString:
        """Add a new session to the store and return its token."""
        token = self.mint.mint("eg", SESSION)
        self.issued += 1
        now = self.clock()
        credential = Credential(
            credential_id=f"ses_{self.issued}",
            owner_id=owner_id,
            scopes=scopes,
            expire_time=now + lifetime,
            revoke_time=None,
            annotations={},
            kind=CredentialKind.SESSION,
            activity=Activity(now, idle_timeout),
        )
        self.store.rows[token.prefix] = StoredCredential(credential, session_digest(token.secret), MINTED)
        self.activities.rows[credential.credential_id] = now, idle_timeout
        return token

    def change(self, key: KeyString, **changed: Any) -> None:
        """Change a key in the store, which the verifier does not know yet."""
        row = self.store.rows[key.prefix]
        credential = replace(row.credential, **changed)
        self.store.rows[key.prefix] = StoredCredential(credential, row.secret_hash, row.secret_origin)

    def forge(self, key: KeyString) -> KeyString:
        """Return a string with the key's prefix, another secret and the right tag for it."""
        body = key.prefix + self.mint.mint("eg", "live").secret
        forged = self.mint.parse(body + self.mint._tag(body))
        assert forged is not None
        assert forged.prefix == key.prefix
        return forged

    def credential_of(self, key: KeyString) -> Credential:
        return self.store.rows[key.prefix].credential

    async def code(
        self, presented: KeyString | str, scopes: Sequence[str] = (), caller: Caller = ACME
    ) -> VerdictCode:
        """Return the verdict on a presented string."""
        text = presented.text if isinstance(presented, KeyString) else presented
        return (await self.verifier.verify(ask(caller, scopes), text)).code

    async def session_code(
        self, presented: KeyString, scopes: Sequence[str] = (), caller: Caller = ACME
    ) -> VerdictCode:
        """Return the verdict on a presented session token."""
        question = ask(caller, scopes, kind=CredentialKind.SESSION)
        return (await self.verifier.verify(question, presented.text)).code

    async def verify_all(
        self, caller: Caller, asked: Sequence[tuple[str, Sequence[str], str]]
    ) -> list[Verdict]:
        """Return the verdicts on keys, each with its string, its scopes and the client's address."""
        return await self.verifier.verify_all(
            [(ask(caller, scopes, client_ip), text) for text, scopes, client_ip in asked]
        )

    async def uses(self) -> list[Use]:
        """Return all uses noted so far."""
        await self.usage.flush()
        return self.use_store.uses


def make_parts(*, capacity: int = 100, queue_limit: int = 64, beside: Parts | None = None) -> Parts:
    """Build a verifier, with the stores and the clock of `beside`; the caller closes its hasher."""
    use_store = FakeUseStore()
    clock = beside.clock if beside else Clock()
    activities = beside.activities if beside else FakeActivityStore()
    lease = Lease()
    lease.renew(inf)
    return Parts(
        clock=clock,
        mint=KeyMint(b"k" * 32),
        cache=PrefixCache(capacity),
        hasher=PausingHasher(threads=2, queue_limit=queue_limit),
        store=beside.store if beside else FakeCredentialStore(activities),
        use_store=use_store,
        usage=KeyUseLog(use_store),
        lease=lease,
        feed=FakeHistory(),
        activities=activities,
        activity=UsageLog(activities),
    )


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return the coroutine's result, provided that it never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise AssertionError("it waits")
