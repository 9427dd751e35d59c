"""The verdict on a presented credential. A negative verdict is a result, not an error (rule 20)."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from authsvc.model.credential import Credential
from authsvc.model.rate_limit import RateLimits
from authsvc.model.scope import has_all, has_any


class VerdictCode(Enum):
    """Whether a presented credential is valid, and if not, why."""

    VALID = "VALID"
    NOT_FOUND = "NOT_FOUND"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    DISABLED = "DISABLED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    RATE_LIMITED = "RATE_LIMITED"
    CREDITS_EXHAUSTED = "CREDITS_EXHAUSTED"

    # That of Enum is computed in Python, for each look into a dictionary.
    __hash__ = object.__hash__


class Verdict(NamedTuple):
    """`credential` is None exactly if `code` is NOT_FOUND: without the right secret, nothing is disclosed.

    `limits` are the rate limits and credits that were asked, if any. `retry_after` is the wait in seconds if
    `code` is RATE_LIMITED or CREDITS_EXHAUSTED, infinite if it never becomes VALID by itself.
    """

    code: VerdictCode
    credential: Credential | None
    limits: RateLimits | None = None
    retry_after: float = 0.0


NOT_FOUND = Verdict(VerdictCode.NOT_FOUND, None)


def decide(
    credential: Credential,
    required_scopes: Sequence[str],
    now: datetime,
    client_ip: str = "",
    any_of_scopes: Sequence[str] = (),
) -> Verdict:
    """Judge a credential whose secret was proved, for a client with a normalized address, "" if not known.

    Whoever asks takes units from its rate limits and credits after that, if it is VALID.

    A credential is refused from the instant `now >= expire_time` on (rule 13), and a session from the instant
    at which its idle timeout is over. Final states take precedence over DISABLED, which can be taken back.
    Then comes the address, and last the scopes (rule 7): all that are required, and one of `any_of_scopes`.
    """
    if (revoke_time := credential.revoke_time) is not None and now >= revoke_time:
        return Verdict(VerdictCode.REVOKED, credential)
    if (expire_time := credential.expire_time) is not None and now >= expire_time:
        return Verdict(VerdictCode.EXPIRED, credential)
    if credential.activity is not None and credential.activity.is_idle(now):
        return Verdict(VerdictCode.EXPIRED, credential)
    if (disabled_until := credential.disabled_until) is not None and now < disabled_until:
        return Verdict(VerdictCode.DISABLED, credential)
    if (networks := credential.networks) is not None and not networks.contain(client_ip):
        return Verdict(VerdictCode.ADDRESS_NOT_ALLOWED, credential)
    if not has_all(credential.scopes, required_scopes) or (
        any_of_scopes and not has_any(credential.scopes, any_of_scopes)
    ):
        return Verdict(VerdictCode.INSUFFICIENT_SCOPE, credential)
    return Verdict(VerdictCode.VALID, credential)
