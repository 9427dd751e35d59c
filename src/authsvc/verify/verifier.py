"""parse → cache → proof → decide, for credentials of either kind.

A hit touches memory only and does not await, so that any transport can ask. See
the package's docstring for the mechanism and its bounds.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from hmac import compare_digest
from typing import NamedTuple, Protocol

from authsvc.model.activity import Activity
from authsvc.model.caller import Caller
from authsvc.model.client_hints import NO_HINTS, ClientHints
from authsvc.model.credential import Credential, CredentialKind, StoredCredential
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.feed import Place
from authsvc.model.key_string import MAX_LENGTH, TAIL_LENGTH, KeyMint, KeyString
from authsvc.model.use import Use, noted
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode, decide
from authsvc.verify.entry import Entry
from authsvc.verify.hasher import Hasher
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.session_digest import session_digest
from authsvc.verify.usage import UsageLog

_log = logging.getLogger(__name__)


# How often a fill reads again when the node that answered turns out to be behind.
_READS = 3


class CredentialStore(Protocol):
    """What the verifier needs of the database."""

    async def find_credential(self, key_prefix: str) -> tuple[StoredCredential | None, Place]:
        """Return the credential with this prefix, and the feed's end in the same snapshot.

        None is said by the primary alone. Raises RetryableError when it cannot be known now.
        """

    async def refresh(self) -> None:
        """Read from now on over new connections."""

    async def replace_secret_hash(self, key_prefix: str, old: str, new: str) -> None:
        """Replace a secret's hash, unless somebody else has."""


class ActivityStore(Protocol):
    """What the verifier needs of the database when a session nears its idle end, or seems to be past it."""

    async def find_activity(self, session_id: str, now: datetime) -> datetime | None:
        """Return the last activity that any worker has recorded; None for a session that is over at `now`.

        That is final: no activity is recorded from then on. Raises RetryableError when it cannot be
        known now.
        """

    async def record_activity(self, use: Use) -> datetime | None:
        """Record an activity, durably; return the last one then, or None when the session is over."""


class Question(NamedTuple):
    """What is asked of a credential. `kind` None: whichever; `caller` None: it is our caller's own."""

    kind: CredentialKind | None
    caller: Caller | None
    required_scopes: Sequence[str] = ()
    client_ip: str = ""
    user_agent: str = ""
    client_hints: ClientHints = NO_HINTS


class History(Protocol):
    """What the verifier needs of the feed, which is all that a fill is checked against."""

    @property
    def seq(self) -> int:
        """Up to where changes were applied."""

    async def knows(self, place: Place, since: int) -> bool:
        """Say whether a read at `place` may be remembered; see Feed."""


class Verifier:
    """Says what a presented credential is worth, while it holds the lease."""

    def __init__(
        self,
        *,
        mint: KeyMint,
        cache: PrefixCache,
        hasher: Hasher,
        store: CredentialStore,
        usage: UsageLog,
        activities: ActivityStore,
        activity: UsageLog,
        lease: Lease,
        feed: History,
        clock: Callable[[], datetime],
        max_fills_of_one: int = 500,
    ) -> None:
        """Take the parts; `max_fills_of_one` is how many look-ups one owner's callers may have under way."""
        self._mint = mint
        self._cache = cache
        self._hasher = hasher
        self._store = store
        self._usage = usage
        self._activities = activities
        self._activity = activity
        self._max_fills_of_one = max_fills_of_one
        # How many fills are under way for callers of an owner.
        self._filling: Counter[str] = Counter()
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._lease = lease
        self._feed = feed
        self._clock = clock
        # How many verdicts of each kind there were; plain numbers, for the hot path's sake.
        self.counts = dict.fromkeys(VerdictCode, 0)

    def recall(self, question: Question, presented: str) -> Verdict | None:
        """Return the verdict from memory alone, without an await; None when `verify` has to look further."""
        proved = self._prove_from_memory(presented)
        if isinstance(proved, KeyString):
            return None
        return self._judge(question, proved)

    async def verify(self, question: Question, presented: str) -> Verdict:
        """Return the verdict on what was presented. A VALID one counts as a use (rule 23).

        Raises Overloaded or Unavailable when it cannot be known now.
        """
        while True:
            credential = await self.identify(presented, question.caller)
            verdict = self._judge(question, credential)
            if verdict is not None:
                return verdict
            await self._settle(question, credential)

    async def verify_all(self, asked: Sequence[tuple[Question, str]]) -> list[Verdict]:
        """Return a verdict for each question about a key that was presented, in order.

        What memory does not know is looked up side by side; then all are judged at
        one instant. Raises for all what `verify` raises for one.
        """
        found: dict[str, Credential | None] = {}
        callers = {text: question.caller for question, text in asked}
        # Again for what was forgotten or evicted while the others were looked up.
        while cold := {text for _, text in asked if text not in found and self._is_cold(text)}:
            changes = self._cache.changes
            identified = await asyncio.gather(*(self.identify(text, callers[text]) for text in cold))
            found.update(zip(cold, identified, strict=True))
            if self._cache.changes != changes:
                # What was found may have changed since; what is no key of ours stays none.
                found = {text: None for text, credential in found.items() if credential is None}
        verdicts = []
        for question, text in asked:
            proved = self._prove_from_memory(text)
            credential = found[text] if isinstance(proved, KeyString) else proved
            verdict = self._judge(question, credential)
            if verdict is None:
                raise AssertionError("only a session can be in doubt, and none is asked about")
            verdicts.append(verdict)
        return verdicts

    async def identify(self, presented: str, caller: Caller | None = None) -> Credential | None:
        """Return the credential whose very string this is, whatever its state; not counted as a use.

        Raises Overloaded when too much is being looked up, of all or for this caller's owner.
        """
        while isinstance(proved := self._prove_from_memory(presented), KeyString):
            if await self._fill(proved, caller) is None:
                return None
            # The answer comes from memory, at the moment it is given: a change that came while
            # this waited has been forgotten there, and is read anew.
        return proved

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

    def _judge(self, question: Question, credential: Credential | None) -> Verdict | None:
        """Decide last, with no await between this and the answer (R4); None when `_settle` has to look first.

        An entry that a change has ended is in memory no more, so the lease is all that
        is left to check.
        """
        self._lease.check()
        kind, caller, required_scopes, client_ip, user_agent, client_hints = question
        if (
            credential is None
            or (kind is not None and credential.kind is not kind)
            or (caller is not None and not caller.acts_on(credential.owner_id))
        ):
            self.counts[VerdictCode.NOT_FOUND] += 1
            return NOT_FOUND
        now = self._clock()
        verdict = decide(credential, required_scopes, now)
        code, activity = verdict.code, credential.activity
        if activity is not None and _is_in_doubt(credential, activity, code, now):
            return None
        if code is VerdictCode.VALID:
            if activity is None:
                self._usage.note(credential.credential_id, now, client_ip, "", credential.owner_id)
            else:
                activity.note(now)
                self._activity.note(
                    credential.credential_id, now, client_ip, user_agent, credential.owner_id, client_hints
                )
        self.counts[code] += 1
        return verdict

    async def _settle(self, question: Question, credential: Credential | None) -> None:
        """Have the database say whether a session is alive, before anybody relies on it; see Activity.

        Who asks about the same session meanwhile waits for the same answer.
        """
        if credential is None or (activity := credential.activity) is None:
            raise AssertionError("only a session can be in doubt")
        session_id = credential.credential_id
        asking = self._settling.get(session_id)
        if asking is None:
            use = Use(
                session_id,
                self._clock(),
                question.client_ip,
                noted(question.user_agent),
                question.client_hints,
            )
            asking = self._settling[session_id] = asyncio.create_task(self._ask(activity, use))
            asking.add_done_callback(lambda _: self._settling.pop(session_id))
            # Whoever waits sees the error; when all have left, nobody needs to.
            asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(asking)

    async def _ask(self, activity: Activity, use: Use) -> None:
        """Look whether an end that seems to have come has come, or record an activity before it does."""
        if activity.is_idle(use.time):
            recorded = await self._activities.find_activity(use.credential_id, use.time)
        else:
            recorded = await self._activities.record_activity(use)
        if recorded is None:
            activity.end()
        else:
            activity.learn(recorded)

    def _is_cold(self, presented: str) -> bool:
        return isinstance(self._prove_from_memory(presented), KeyString)

    async def _fill(self, key: KeyString, caller: Caller | None) -> Entry | None:
        """Have the database and argon2id say about a string; None when its secret is wrong.

        For the callers of one owner there are so many such fills at a time, so that others find room in the
        queues of both. Those of the platform ask for all.
        """
        digest = self._cache.digest(key.text)
        owner_id = caller.confined_to if caller is not None else None
        if owner_id is None or self._cache.is_filling(digest):
            return await self._cache.fill(key.prefix, digest, lambda: self._load(key, digest))
        if self._filling[owner_id] >= self._max_fills_of_one:
            raise Overloaded(
                "too many keys are being looked up for callers of one owner; retry after the delay in "
                "RetryInfo",
                reason="LOOK_UP_LIMIT",
                retry_after=0.5,
            )
        # Until the fill has ended, not only for as long as the caller waits.
        self._filling[owner_id] += 1
        return await self._cache.fill(key.prefix, digest, lambda: self._load_for(owner_id, key, digest))

    async def _load_for(self, owner_id: str, key: KeyString, digest: bytes) -> Entry | None:
        try:
            return await self._load(key, digest)
        finally:
            self._filling[owner_id] -= 1
            if not self._filling[owner_id]:
                del self._filling[owner_id]

    async def _load(self, key: KeyString, digest: bytes) -> Entry | None:
        stored = await self._find(key.prefix)
        if stored is None:
            # Prefixes are never used again, so what is absent stays absent.
            return Entry(digest, None)
        if stored.credential.kind is CredentialKind.SESSION:
            # Nothing to guess and nothing to renew: see ADR 10.
            is_right = compare_digest(session_digest(key.secret), stored.secret_hash)
            return Entry(digest, stored.credential) if is_right else None
        if not await self._hasher.verify(key.secret, stored.secret_hash):
            return None
        if self._hasher.is_outdated(stored.secret_hash, stored.secret_origin):
            try:
                renewed = await self._hasher.hash(key.secret, stored.secret_origin)
                await self._store.replace_secret_hash(key.prefix, stored.secret_hash, renewed)
            except Exception as error:  # noqa: BLE001 - the key is proved; the next cold start tries again
                _log.warning("the hash of %s could not be renewed: %s", key.prefix, type(error).__name__)
        return Entry(digest, stored.credential)

    async def _find(self, key_prefix: str) -> StoredCredential | None:
        """R5: what was read may be remembered only if this worker has applied all that it builds on.

        A change that is applied from now on detaches the fill.
        """
        for _ in range(_READS):
            since = self._feed.seq
            stored, place = await self._store.find_credential(key_prefix)
            if await self._feed.knows(place, since):
                return stored
            await self._store.refresh()
        raise Unavailable(
            "the database answers from an older state than is known here; retry",
            reason="DATABASE_BEHIND",
            retry_after=1,
        )


def _is_in_doubt(credential: Credential, activity: Activity, code: VerdictCode, now: datetime) -> bool:
    """Say whether the database has to be asked before this is said of a session."""
    if activity.is_certain(now):
        return False
    if code is VerdictCode.EXPIRED:
        # Beyond its lifetime, no activity matters.
        return credential.expire_time is None or now < credential.expire_time
    return code is VerdictCode.VALID
