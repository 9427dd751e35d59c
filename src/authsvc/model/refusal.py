"""How a credential that is not good is refused: a stable reason, and what is told."""

from collections.abc import Mapping

from authsvc.model.verdict import VerdictCode

# To follow "the credential ...". Who has the right secret is told which it is (rule 21).
REFUSALS: Mapping[VerdictCode, tuple[str, str]] = {
    VerdictCode.NOT_FOUND: ("CREDENTIAL_INVALID", "is not known; check that it was copied whole"),
    VerdictCode.REVOKED: ("CREDENTIAL_REVOKED", "was revoked; create a new key, or sign in again"),
    VerdictCode.EXPIRED: (
        "CREDENTIAL_EXPIRED",
        "has expired; create or rotate to a new key, or sign in again",
    ),
    VerdictCode.DISABLED: (
        "CREDENTIAL_DISABLED",
        "is a key, and the policy of its owner has switched keys off; have them switched on, or sign in",
    ),
}
