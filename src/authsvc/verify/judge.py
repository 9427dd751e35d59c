"""The judgement of a proved credential, without an await.

Lease, kind, owner, times, policy, address and scopes are looked at, and last the rate limits and the credits,
so that what is refused takes nothing from them.

Security rests on the order. The credential comes from memory, and the lease is checked after it was taken
from there. Nothing is awaited between the check and the verdict, so no change can be applied in between. A
change that was answered has removed the credential from memory, or has waited until the lease was over (R4
in docs/revocation.md).
"""

from collections.abc import Callable
from datetime import datetime
from typing import TypeAlias

from authsvc.model.activity import Activity
from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.key_use import ITSELF
from authsvc.model.rate_limit import RateLimits
from authsvc.model.use import Use
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode, decide
from authsvc.verify.key_uses import KeyUses
from authsvc.verify.lease import Lease
from authsvc.verify.question import Question
from authsvc.verify.usage import UsageNotes

# To look them up in the class takes longer.
_LIMITED, _EXHAUSTED = VerdictCode.RATE_LIMITED, VerdictCode.CREDITS_EXHAUSTED
# When others were faster.
_RETRY_SECONDS = 0.1

# Takes a cost from rate limits and credits, or nothing. Returns the verdict and how long to wait, in seconds;
# None if the database has to be asked first.
TakeUnits: TypeAlias = Callable[[RateLimits, int], tuple[VerdictCode, float] | None]
NoteMisplaced: TypeAlias = Callable[[Credential, str, datetime], None]


class Judge:
    """Decides what a proved credential is worth, and notes the use of a valid one."""

    def __init__(
        self,
        *,
        lease: Lease,
        clock: Callable[[], datetime],
        usage: KeyUses,
        activity: UsageNotes,
        take_units: TakeUnits | None = None,
        note_misplaced: NoteMisplaced = lambda _credential, _client_ip, _now: None,
        verifier_id: str = ITSELF,
    ) -> None:
        """`usage` takes the uses of keys, `activity` those of sessions.

        Without `take_units`, keys with rate limits or credits are not judged.

        `note_misplaced` is told who shows the right secret at an address that is not allowed. `verifier_id`
        is who asks where a question has no caller.
        """
        self._lease = lease
        self._clock = clock
        self._usage = usage
        self._activity = activity
        self._take_units = take_units
        self._note_misplaced = note_misplaced
        self._verifier_id = verifier_id
        # The number of verdicts by code. Plain integers, because a metric object would slow down each hit.
        self.counts = dict.fromkeys(VerdictCode, 0)

    def verdict(self, question: Question, credential: Credential | None) -> Verdict | None:
        """Return the verdict; None when the database has to be asked first (R4).

        That is so for a session near its idle end, and for a key with rate limits or credits of which this
        worker has not borrowed enough.

        Must be the last step before the answer, with no await after it. Raises Unavailable without a lease.
        """
        self._lease.check()
        kind, caller, required_scopes, client_ip, user_agent, client_hints, any_of_scopes, cost = question
        if (
            credential is None
            or (kind is not None and credential.kind is not kind)
            or (caller is not None and not caller.acts_on(credential.owner_id))
        ):
            self.counts[VerdictCode.NOT_FOUND] += 1
            return NOT_FOUND
        now = self._clock()
        verdict = decide(credential, required_scopes, now, client_ip, any_of_scopes)
        code, activity = verdict.code, credential.activity
        if activity is not None and _is_in_doubt(credential, activity, code, now):
            return None
        if code is VerdictCode.VALID and cost is not None and credential.limits is not None:
            taken = self._take(credential, credential.limits, cost)
            if taken is None:
                return None
            code, verdict = taken.code, taken
        if code is VerdictCode.VALID:
            if activity is None:
                self._usage.note(
                    credential.credential_id,
                    now,
                    client_ip,
                    user_agent,
                    credential.owner_id,
                    self._verifier_id if caller is None else caller.credential_id,
                )
            else:
                activity.note(now)
                self._activity.note(
                    credential.credential_id, now, client_ip, user_agent, credential.owner_id, client_hints
                )
        elif code is VerdictCode.ADDRESS_NOT_ALLOWED:
            self._note_misplaced(credential, client_ip, now)
        self.counts[code] += 1
        return verdict

    def is_valid(self, question: Question, credential: Credential) -> bool:
        """Return whether a key is valid but for its rate limits and credits. Nothing is noted or taken."""
        kind, caller = question.kind, question.caller
        if (kind is not None and credential.kind is not kind) or (
            caller is not None and not caller.acts_on(credential.owner_id)
        ):
            return False
        now = self._clock()
        verdict = decide(
            credential, question.required_scopes, now, question.client_ip, question.any_of_scopes
        )
        return verdict.code is VerdictCode.VALID

    def limited(self, credential: Credential) -> Verdict:
        """Return the verdict on a key whose units others have taken while they were borrowed."""
        limits = credential.limits
        account = None if limits is None else limits.account
        lacks_credits = account is not None and not account.remaining
        code = _EXHAUSTED if lacks_credits or (limits is not None and not limits.budgets) else _LIMITED
        self.counts[code] += 1
        return Verdict(code, credential, limits, _RETRY_SECONDS)

    def _take(self, credential: Credential, limits: RateLimits, cost: int) -> Verdict | None:
        taken = None if self._take_units is None else self._take_units(limits, cost)
        return None if taken is None else Verdict(taken[0], credential, limits, taken[1])

    def note(self, kind: CredentialKind, owner_id: str, use: Use, verifier_id: str, uses: int) -> None:
        """Note uses that a client has seen, which judges by the same rules. Those of the future are of now.

        `use` is the last of them.
        """
        now = min(use.time, self._clock())
        if kind is CredentialKind.KEY:
            self._usage.note(
                use.credential_id, now, use.client_ip, use.user_agent, owner_id, verifier_id, uses
            )
        else:
            self._activity.note(
                use.credential_id, now, use.client_ip, use.user_agent, owner_id, use.client_hints
            )


def _is_in_doubt(credential: Credential, activity: Activity, code: VerdictCode, now: datetime) -> bool:
    """Return whether the database may know of an activity, or of an end, that changes this verdict."""
    if activity.is_certain(now):
        return False
    if code is VerdictCode.EXPIRED:
        # Activity cannot extend the lifetime.
        return credential.expire_time is None or now < credential.expire_time
    return code is VerdictCode.VALID
