"""The verdict on a presented credential. A negative verdict is a result, not an error (rule 20)."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from authsvc.model.credential import Credential
from authsvc.model.scope import has_all


class VerdictCode(Enum):
    """Whether a presented credential is valid, and if not, why."""

    VALID = "VALID"
    NOT_FOUND = "NOT_FOUND"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    DISABLED = "DISABLED"

    # That of Enum is computed in Python, for each look into a dictionary.
    __hash__ = object.__hash__


class Verdict(NamedTuple):
    """`credential` is None exactly if `code` is NOT_FOUND: without the right secret, nothing is disclosed."""

    code: VerdictCode
    credential: Credential | None


NOT_FOUND = Verdict(VerdictCode.NOT_FOUND, None)


def decide(credential: Credential, required_scopes: Sequence[str], now: datetime) -> Verdict:
    """Judge a credential whose secret was proved.

    A credential is refused from the instant `now >= expire_time` on (rule 13), and a session from the instant
    at which its idle timeout is over. Final states take precedence over DISABLED, which the owner's policy
    can take back. Scopes are checked last (rule 7).
    """
    if (revoke_time := credential.revoke_time) is not None and now >= revoke_time:
        return Verdict(VerdictCode.REVOKED, credential)
    if (expire_time := credential.expire_time) is not None and now >= expire_time:
        return Verdict(VerdictCode.EXPIRED, credential)
    if credential.activity is not None and credential.activity.is_idle(now):
        return Verdict(VerdictCode.EXPIRED, credential)
    if credential.disabled:
        return Verdict(VerdictCode.DISABLED, credential)
    if not has_all(credential.scopes, required_scopes):
        return Verdict(VerdictCode.INSUFFICIENT_SCOPE, credential)
    return Verdict(VerdictCode.VALID, credential)
