"""What this process answers by itself: the credentials that it holds, under the sub-lease of its worker.

Mechanism: the parts are those of a worker (`authsvc.verify`), so a credential is judged here as it is there.
The client holds nothing and has no sub-lease until it follows a worker. What the worker sends is carried out
in its order, by the thread of the event loop. Any thread may ask. A lock makes a question, or one order, one
step: between the look at the entry and the look at the sub-lease, no order is carried out (R16 in
docs/revocation.md). Without that, a thread might take an entry, be stopped until the sub-lease is over, and
continue under the next one, which was granted because the entry had been forgotten.

Bound: `capacity` entries of usual size, and as many notes of last uses. Strings are kept as digests under a
key that is drawn anew each time.

Failure: what is not known for certain is None, and has to be asked. A process that is forked from this one
has an empty memory.
"""

import os
import threading
from collections.abc import Collection, Sequence
from datetime import datetime
from hmac import compare_digest
from typing import NamedTuple
from weakref import WeakSet

from authsvc.client.verdict import CredentialType, Verdict, VerdictCode
from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.errors import Unavailable
from authsvc.model.key_string import TAIL_LENGTH
from authsvc.model.key_use import KeyUse
from authsvc.model.verdict import Verdict as Judgement
from authsvc.model.verdict import VerdictCode as Code
from authsvc.verify.clock import DatabaseClock, Stopwatch, boottime
from authsvc.verify.entry import Entry
from authsvc.verify.judge import Judge
from authsvc.verify.key_uses import KeyUses
from authsvc.verify.lease import Lease
from authsvc.verify.prefix_cache import PrefixCache
from authsvc.verify.question import Question
from authsvc.verify.usage import Noted, UsageNotes

_CODES = {code: VerdictCode[code.name] for code in Code}
_TYPES = {kind: CredentialType[kind.name] for kind in CredentialKind}
# Of the credentials that a client may hold, some are on their way, or are evicted and not yet released.
_USED_CAPACITY = 15 / 16


class Uses(NamedTuple):
    """The uses of keys, and the last uses of sessions."""

    keys: Sequence[KeyUse]
    sessions: Sequence[Noted]


class Memory:
    """Answers from memory, in any thread of the process that follows."""

    def __init__(self, capacity: int, stopwatch: Stopwatch = boottime) -> None:
        """Take the number of credentials that it holds at most."""
        self._stopwatch = stopwatch
        self._lock = threading.Lock()
        # The process that follows; there is none with this number.
        self._pid = 0
        self._lease = Lease(stopwatch)
        self._clock = DatabaseClock(stopwatch)
        self._keys = KeyUses(limit=2 * capacity)
        self._sessions = UsageNotes(limit=2 * capacity, fills_in=True)
        self._judge = Judge(
            lease=self._lease,
            clock=self._clock,
            usage=self._keys,
            activity=self._sessions,
            verifier_id="",  # The worker knows it.
        )
        # How many credentials it was sent.
        self.admitted = 0
        self._evicted: list[str] = []
        self._cache = self._new_cache(capacity)
        _memories.add(self)

    def recall(self, question: Question, presented: str) -> Verdict | None:
        """Return the verdict from memory; None if authsvc has to be asked. A VALID one counts as a use."""
        if os.getpid() != self._pid:
            return None
        with self._lock:
            entry = self._cache.get(presented[:-TAIL_LENGTH])
            if entry is None:
                return None
            # As in `Verifier`: another string with this prefix has a wrong secret, and costs the same time.
            is_proved = compare_digest(entry.digest, self._cache.digest(presented))
            try:
                judgement = self._judge.verdict(question, entry.credential if is_proved else None)
            except Unavailable:  # no sub-lease
                return None
        # What comes from an address that is not allowed is asked about, so that the contacts are told of it.
        if judgement is None or judgement.code is Code.ADDRESS_NOT_ALLOWED:
            return None
        return _verdict(judgement, question.kind)

    def knows(self, presented: str) -> bool:
        """Return whether a credential with the prefix of this string is held, now."""
        with self._lock:
            return os.getpid() == self._pid and presented[:-TAIL_LENGTH] in self._cache

    @property
    def answered(self) -> int:
        """How many verdicts were given."""
        counts = self._judge.counts
        return sum(counts.values()) - counts[Code.ADDRESS_NOT_ALLOWED]  # those were asked about

    @property
    def lease_left(self) -> float:
        """What is left of the sub-lease, in seconds; 0 without one."""
        return self._lease.left if os.getpid() == self._pid else 0.0

    def __len__(self) -> int:
        return len(self._cache)

    def digest(self, presented: str) -> bytes:
        """Return the digest of a string, under the key of this memory."""
        return self._cache.digest(presented)

    def start(self, capacity: int) -> None:
        """Begin to follow a worker in this process, without a sub-lease and with nothing held (R12)."""
        with self._lock:
            self._empty("no sub-lease was granted yet")
            self._cache = self._new_cache(capacity)
            self._pid = os.getpid()

    def grant(self, until: float, now: datetime, asked: float, answered: float) -> None:
        """Take a sub-lease until an instant on the stopwatch (R13), and a reading of the service's clock."""
        with self._lock:
            self._clock.set(now, asked, answered)
            self._lease.renew(until)

    def admit(self, prefix: str, digest: bytes, credential: Credential) -> None:
        """Hold a credential. The worker sends what it knows last, with all earlier changes in it."""
        with self._lock:
            known = self._cache.get(prefix)
            old = None if known is None or known.credential is None else known.credential.activity
            if credential.activity is not None and old is not None:
                # There may be uses that the worker has not been told of yet.
                credential.activity.note(old.last)
            self._cache.admit(prefix, Entry(digest, credential))
            self.admitted += 1

    def forget(
        self, prefixes: Collection[str], owner_id: str, kind: CredentialKind | None, *, everything: bool
    ) -> None:
        """Forget credentials. They are forgotten when this returns, for every thread."""
        with self._lock:
            if everything:
                self._cache.clear()
            self._cache.forget(prefixes)
            if owner_id:
                self._cache.forget_owner(owner_id, kind)

    def end(self, reason: str) -> None:
        """Give up the sub-lease, and forget everything."""
        with self._lock:
            self._empty(reason)

    def take_uses(self) -> Uses:
        """Return the uses that were not reported yet."""
        with self._lock:
            return Uses(self._keys.take(), self._sessions.take())

    def keep_uses(self, unreported: Uses) -> None:
        """Take back uses that may not have been reported."""
        with self._lock:
            self._keys.keep(unreported.keys)
            self._sessions.keep(unreported.sessions)

    def take_evicted(self, awaited: Collection[str]) -> list[str]:
        """Return prefixes that are not held any more, and will not be soon.

        One that is `awaited` is held again when the worker's answer arrives. If it were released in the
        meantime, the worker would not tell of its changes.
        """
        with self._lock:
            evicted = {prefix for prefix in self._evicted if prefix not in self._cache}
            self._evicted = [prefix for prefix in evicted if prefix in awaited]
            return sorted(evicted.difference(self._evicted))

    def _empty(self, reason: str) -> None:
        self._lease.end(reason)
        self._cache.clear()
        self._evicted = []

    def _new_cache(self, capacity: int) -> PrefixCache:
        return PrefixCache(
            max(1, int(capacity * _USED_CAPACITY)),
            self._stopwatch,
            # The list is replaced, so it is looked up at each eviction.
            on_eviction=lambda prefix: self._evicted.append(prefix),
        )

    def forked(self) -> None:
        """Forget, in a process that was forked. The lock may be that of a thread that does not exist here."""
        self._lock = threading.Lock()
        self._pid = 0
        self._lease.end("this process was forked")
        self._cache = self._new_cache(1)
        self._evicted = []


def _verdict(judgement: Judgement, kind: CredentialKind | None) -> Verdict:
    code, credential, *_ = judgement
    if credential is None:
        return Verdict(VerdictCode.NOT_FOUND, _TYPES[kind or CredentialKind.KEY])
    end, activity = credential.expire_time, credential.activity
    if activity is not None and (end is None or activity.idle_end < end):
        end = activity.idle_end
    return Verdict(
        _CODES[code],
        _TYPES[credential.kind],
        credential.credential_id,
        credential.owner_id,
        credential.scopes,
        end,
        # Each has its own, as in an answer: callers may write into it. Those of sessions are not in answers.
        dict(credential.annotations) if credential.annotations and activity is None else {},
    )


_memories: WeakSet[Memory] = WeakSet()


def _forget_after_fork() -> None:
    for memory in list(_memories):
        memory.forked()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_after_fork)
