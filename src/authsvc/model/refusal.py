"""How a credential that is not valid is refused: a stable reason, and a message."""

from collections.abc import Mapping

from authsvc.model.verdict import VerdictCode

# The messages follow "the credential ...". All but NOT_FOUND are told only with the right secret (rule 21).
REFUSALS: Mapping[VerdictCode, tuple[str, str]] = {
    VerdictCode.NOT_FOUND: ("CREDENTIAL_INVALID", "is not known; check that it was copied completely"),
    VerdictCode.REVOKED: ("CREDENTIAL_REVOKED", "was revoked; create a new key, or sign in again"),
    VerdictCode.EXPIRED: (
        "CREDENTIAL_EXPIRED",
        "has expired; create or rotate to a new key, or sign in again",
    ),
    VerdictCode.DISABLED: (
        "CREDENTIAL_DISABLED",
        "is a key that is disabled, or the policy of its owner has switched keys off; enable it, or sign in",
    ),
    VerdictCode.ADDRESS_NOT_ALLOWED: (
        "CREDENTIAL_ADDRESS_NOT_ALLOWED",
        "may not be used from this address; call from one of its allowed_networks, or change these",
    ),
}
# Of no caller of authsvc, whose own credential is not limited.
LIMITED: Mapping[VerdictCode, tuple[str, str]] = {
    VerdictCode.RATE_LIMITED: (
        "CREDENTIAL_RATE_LIMITED",
        "has reached a rate limit; retry later, and send fewer requests",
    ),
    VerdictCode.CREDITS_EXHAUSTED: (
        "CREDENTIAL_CREDITS_EXHAUSTED",
        "has too few credits; wait for the next refill, or ask its owner for more",
    ),
}
