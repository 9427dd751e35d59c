"""The verification of a presented key string or session token: prove it, judge it, load it if necessary.

`recall` answers from memory and never awaits. `verify` does the same, and loads what memory does not know.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from hmac import compare_digest
from itertools import count
from typing import TypeAlias

from authsvc.model.caller import Caller
from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.key_string import MAX_LENGTH, TAIL_LENGTH, ForeignString, KeyMint, KeyString
from authsvc.model.rate_limit import RateLimits
from authsvc.model.use import Use
from authsvc.model.verdict import Verdict
from authsvc.verify.activity_check import ActivityCheck, ActivityStore
from authsvc.verify.doubts import MAX_LOANS, Doubts
from authsvc.verify.entry import Entry
from authsvc.verify.foreign_strings import ForeignStrings
from authsvc.verify.hasher import Hasher
from authsvc.verify.judge import Judge, NoteMisplaced
from authsvc.verify.key_uses import KeyUseLog
from authsvc.verify.lease import Lease
from authsvc.verify.loader import AppliedFeed, CredentialStore, Loader
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.question import Question
from authsvc.verify.quotas import Quotas
from authsvc.verify.usage import UsageLog

__all__ = ["Question", "Verifier"]

# How often units are borrowed for a batch, when others take them first.
_MAX_PREPARATIONS = 3

# Returns what a credential is judged as, with some of its rights, or None.
Restrict: TypeAlias = Callable[[Credential], Credential | None]


class Verifier:
    """Says what a presented credential is worth, while this worker holds the lease."""

    def __init__(
        self,
        *,
        mint: KeyMint,
        cache: PrefixCache,
        hasher: Hasher,
        store: CredentialStore,
        usage: KeyUseLog,
        activities: ActivityStore,
        activity: UsageLog,
        lease: Lease,
        feed: AppliedFeed,
        clock: Callable[[], datetime],
        quotas: Quotas | None = None,
        note_misplaced: NoteMisplaced = lambda _credential, _client_ip, _now: None,
        max_loads_per_owner: int = 500,
        foreign: ForeignStrings | None = None,
    ) -> None:
        """`usage` takes the uses of keys, `activity` those of sessions, `note_misplaced` as for `Judge`.

        `max_loads_per_owner` limits the look-ups that are under way for callers of one owner. `foreign`
        knows the strings that were made elsewhere; None if none is accepted.
        """
        self._mint = mint
        self._cache = cache
        self._lease = lease
        self._foreign = foreign
        self._loader = Loader(
            cache=cache, hasher=hasher, store=store, feed=feed, max_loads_per_owner=max_loads_per_owner
        )
        self._judge = Judge(
            lease=lease,
            clock=clock,
            usage=usage,
            activity=activity,
            take_units=None if quotas is None else quotas.take,
            note_misplaced=note_misplaced,
        )
        self._doubts = Doubts(ActivityCheck(store=activities, clock=clock), quotas)
        # The number of verdicts by code.
        self.counts = self._judge.counts

    def recall(self, question: Question, presented: str) -> Verdict | None:
        """Return the verdict from memory alone; None when `verify` has to look further.

        Raises Unavailable without a lease.
        """
        proved = self.prove(presented)
        if isinstance(proved, KeyString):
            return None
        return self._judge.verdict(question, proved)

    async def verify(self, question: Question, presented: str) -> Verdict:
        """Return the verdict on what was presented. A VALID one counts as a use (rule 23).

        Raises Unavailable without a lease, or when the database is needed and cannot answer; Overloaded when
        too many keys are being looked up.
        """
        for attempt in count(1):
            credential = await self.identify(presented, question.caller)
            verdict = self._judge.verdict(question, credential)
            if verdict is not None:
                return verdict
            if (limited := self._beaten(question, credential, attempt)) is not None:
                return limited
            question = await self._doubts.settle(question, credential, attempt)
        raise AssertionError("an endless loop")

    async def verify_all(self, asked: Sequence[tuple[Question, str]]) -> list[Verdict]:
        """Return a verdict for each pair of a question and a key string, in order.

        Unknown keys are looked up concurrently, and units and credits borrowed; then all are judged at one
        instant. Raises what `verify` raises; one error fails the whole batch.
        """
        found: dict[str, Credential | None] = {}
        for preparations in count():
            await self._find_all(asked, found)
            before = self._changes
            credentials = [self._found(text, found) for _, text in asked]
            wanted = self._wanted(asked, credentials) if preparations < _MAX_PREPARATIONS else ()
            if not wanted or not await self._doubts.prepare(wanted):
                break
            self._drop_changed(found, before)
        # Nothing was awaited since the credentials were found.
        return [
            self._judge.verdict(question, credential) or self._undoubted(question, credential)
            for (question, _), credential in zip(asked, credentials, strict=True)
        ]

    async def _find_all(
        self, asked: Sequence[tuple[Question, str]], found: dict[str, Credential | None]
    ) -> None:
        """Find the credentials of strings that memory does not know. Nothing is awaited if it knows all."""
        callers = {text: question.caller for question, text in asked}
        # Repeat for those that were forgotten or evicted while the others were looked up.
        while cold := {text for _, text in asked if text not in found and self._is_cold(text)}:
            before = self._changes
            identified = await asyncio.gather(*(self.identify(text, callers[text]) for text in cold))
            found.update(zip(cold, identified, strict=True))
            self._drop_changed(found, before)

    def _drop_changed(self, found: dict[str, Credential | None], before: tuple[int, int]) -> None:
        """Drop what may not be true any more since `before`, which is that of `_changes`."""
        now = self._changes
        if now != before:
            # Any credential may have changed. A string that is not a key becomes one only by an import.
            is_same = now[1] == before[1]
            for text in [text for text, known in found.items() if known is not None or not is_same]:
                del found[text]

    def _found(self, text: str, found: Mapping[str, Credential | None]) -> Credential | None:
        proved = self.prove(text)
        return found[text] if isinstance(proved, KeyString) else proved

    def _wanted(
        self, asked: Sequence[tuple[Question, str]], credentials: Sequence[Credential | None]
    ) -> list[tuple[RateLimits, int]]:
        """Return what the valid keys of a batch are going to take from rate limits and credits."""
        return [
            (credential.limits, question.cost)
            for (question, _), credential in zip(asked, credentials, strict=True)
            if credential is not None and credential.limits is not None and question.cost is not None
            if self._judge.is_valid(question, credential)
        ]

    def _undoubted(self, question: Question, credential: Credential | None) -> Verdict:
        """Return the verdict of a batch on a key for which the database was asked often enough."""
        if credential is None or not question.cost:
            verdict = self._judge.verdict(question._replace(cost=None), credential)
            if verdict is None:
                raise AssertionError("a batch holds keys only, and their activity is never uncertain")
            return verdict
        return self._judge.limited(credential)

    def _beaten(self, question: Question, credential: Credential | None, attempt: int) -> Verdict | None:
        """Return RATE_LIMITED on a valid key whose units others took each time that they were borrowed."""
        if attempt <= MAX_LOANS or credential is None or credential.limits is None or not question.cost:
            return None
        return self._judge.limited(credential)

    async def identify(self, presented: str, caller: Caller | None = None) -> Credential | None:
        """Return the credential that exactly this string belongs to, in any state; not counted as a use.

        Raises Overloaded when too many keys are being looked up, for all callers or for this caller's owner;
        Unavailable when the database is needed and cannot answer.
        """
        wrong: set[str] = set()
        while isinstance(proved := self.prove(presented, wrong), KeyString):
            if self._foreign is not None and isinstance(proved, ForeignString):
                if not proved.prefix:
                    await self._foreign.read()
                elif await self._loader.load(proved, caller) is None:
                    # It may be the string of another look-up.
                    wrong.add(proved.prefix)
            elif await self._loader.load(proved, caller) is None:
                return None
            # Read memory again: a change that was applied meanwhile has removed the entry.
        return proved

    def prove(self, presented: str, wrong: Collection[str] = ()) -> Credential | KeyString | None:
        """Return the credential that memory has for exactly this string; None if the string is not one.

        Returns its parts if memory does not know it. `wrong` is that of `ForeignStrings.prove`.

        An entry whose digest equals that of the string has proved its form and tag before. A different digest
        means a wrong secret, and costs the same time (rule 21). If no string was proved yet, this one is to
        be, as if there were no entry. A string that is none of ours may be one that was imported.
        """
        parsed: KeyString | None = None
        if len(presented) <= MAX_LENGTH:
            entry = self._cache.get(presented[:-TAIL_LENGTH])
            if entry is None:
                parsed = self._mint.parse(presented)
            elif compare_digest(entry.digest, self._cache.digest(presented)):
                if entry.credential is not None:
                    return entry.credential
            elif not entry.digest:
                parsed = self._mint.parse(presented)
        if parsed is not None or self._foreign is None or self._foreign.are_none:
            return parsed
        return self._foreign.prove(presented, wrong)

    def imported_digest(self, presented: str) -> str:
        """Return the look-up of a string whose digest was imported, now or earlier; "" otherwise."""
        return "" if self._foreign is None else self._foreign.may_have_been(presented)

    def recall_known(self, question: Question, key_prefix: str, restrict: Restrict) -> Verdict | None:
        """Return the verdict from memory on a credential that was proved by other means than its secret.

        `restrict` returns what is to be judged in its place, with fewer rights, or None for NOT_FOUND. It
        must not await. Returns None when `verify_known` has to look further. Raises Unavailable without a
        lease.
        """
        entry = self._cache.get(key_prefix)
        return None if entry is None else self._judge.verdict(question, _restricted(entry, restrict))

    async def verify_known(self, question: Question, key_prefix: str, restrict: Restrict) -> Verdict:
        """Return the verdict of `recall_known`, and load what memory does not know.

        Raises what `verify` raises.
        """
        attempt = 0
        while True:
            entry = self._cache.get(key_prefix)
            if entry is None:
                await self._loader.load_unproved(key_prefix, question.caller)
                # Read memory again: a change that was applied meanwhile has removed the entry.
                continue
            credential = _restricted(entry, restrict)
            verdict = self._judge.verdict(question, credential)
            if verdict is not None:
                return verdict
            attempt += 1
            if (limited := self._beaten(question, credential, attempt)) is not None:
                return limited
            question = await self._doubts.settle(question, credential, attempt)

    def refuse(self, question: Question) -> Verdict:
        """Return the verdict on what is no credential, NOT_FOUND. Raises Unavailable without a lease."""
        verdict = self._judge.verdict(question, None)
        if verdict is None:
            raise AssertionError("only the activity of a session can be uncertain")
        return verdict

    @property
    def may_answer(self) -> bool:
        """Whether this worker holds the lease."""
        return self._lease.left > 0

    def note_use(
        self, kind: CredentialKind, owner_id: str, prefix: str, use: Use, *, verifier_id: str, uses: int
    ) -> None:
        """Note the last of some uses of a credential that a client has verified which holds it (R12).

        `verifier_id` is the client's.
        """
        entry = self._cache.get(prefix)
        if entry is not None and entry.credential is not None and entry.credential.activity is not None:
            entry.credential.activity.note(use.time)
        self._judge.note(kind, owner_id, use, verifier_id, uses)

    @property
    def _changes(self) -> tuple[int, int]:
        """How often the cache has forgotten something, and how often a string was imported."""
        return self._cache.changes, 0 if self._foreign is None else self._foreign.additions

    def _is_cold(self, presented: str) -> bool:
        return isinstance(self.prove(presented), KeyString)


def _restricted(entry: Entry, restrict: Restrict) -> Credential | None:
    return None if entry.credential is None else restrict(entry.credential)
