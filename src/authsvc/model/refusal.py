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
        "is a key, and the policy of its owner has switched keys off; switch them on, or sign in",
    ),
}
