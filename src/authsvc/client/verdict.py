"""Verdicts of authsvc on credentials. A negative verdict is an answer, not an error (rule 20)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1 import key_service_pb2, resources_pb2, session_service_pb2

FULL_ACCESS = "full_access"
_PREFIX = "VERDICT_CODE_"


class CredentialType(Enum):
    """The type of a presented credential."""

    KEY = "key"
    SESSION = "session"


class VerdictCode(Enum):
    """The result of a verification."""

    VALID = "VALID"
    NOT_FOUND = "NOT_FOUND"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    INSUFFICIENT_SCOPE = "INSUFFICIENT_SCOPE"
    DISABLED = "DISABLED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    RATE_LIMITED = "RATE_LIMITED"
    CREDITS_EXHAUSTED = "CREDITS_EXHAUSTED"
    # A code of a newer service that this client does not know. It is not VALID.
    OTHER = "OTHER"


_CODES: dict[int, VerdictCode] = {
    number: VerdictCode[name]
    for name, number in (
        (name.removeprefix(_PREFIX), number) for name, number in resources_pb2.VerdictCode.items()
    )
    if name in VerdictCode.__members__
}


class RateLimit(NamedTuple):
    """A rate limit, and what is left of it. `period` and `reset` are in seconds.

    `reset` is when all units are back if none is taken. With `of_owner`, it is for all keys of the owner.
    """

    name: str
    limit: int
    period: int
    remaining: int
    reset: int
    of_owner: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a credential, and its owner.

    `credential_id` is the id of the key or session. It and the following fields are empty if `code` is
    NOT_FOUND. `expire_time` is in UTC, or None if the key never expires. A session expires at that time if it
    is not used before then. `annotations` are those of a key. A key with `rate_limits` is RATE_LIMITED when
    one of them is reached, for `retry_after` seconds; None if its cost is higher than a limit. A key with
    credits is CREDITS_EXHAUSTED when it has too few, until a refill in `retry_after` seconds; None if there
    is none that is enough. `credits_remaining` is None for a key without credits, or if it is not known. A
    verdict is true if and only if it is VALID, so `if verdict:` is safe.
    """

    code: VerdictCode
    type: CredentialType
    credential_id: str = ""
    owner_id: str = ""
    scopes: tuple[str, ...] = ()
    expire_time: datetime | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    rate_limits: tuple[RateLimit, ...] = ()
    retry_after: float | None = None
    credits_remaining: int | None = None

    @property
    def valid(self) -> bool:
        """Whether to accept the request."""
        return self.code is VerdictCode.VALID

    def __bool__(self) -> bool:
        return self.valid

    def lacks(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the scopes in `scopes` that the credential does not have (rule 22)."""
        return () if FULL_ACCESS in self.scopes else tuple(s for s in scopes if s not in self.scopes)


def of_key(answer: key_service_pb2.VerifyKeyResponse, any_of_scopes: tuple[str, ...] = ()) -> Verdict:
    """Return the verdict in a response of VerifyKey."""
    return Verdict(
        code=_code(answer.valid, answer.code, answer.scopes, any_of_scopes),
        type=CredentialType.KEY,
        credential_id=answer.key_id,
        owner_id=answer.owner_id,
        scopes=tuple(answer.scopes),
        expire_time=_instant(answer.expire_time) if answer.HasField("expire_time") else None,
        annotations=dict(answer.annotations),
        rate_limits=tuple(map(_limit, answer.rate_limits)),
        retry_after=answer.retry_after.ToMicroseconds() / 1e6 if answer.HasField("retry_after") else None,
        credits_remaining=answer.credits_remaining if answer.HasField("credits_remaining") else None,
    )


def of_session(
    answer: session_service_pb2.VerifySessionResponse, any_of_scopes: tuple[str, ...] = ()
) -> Verdict:
    """Return the verdict in a response of VerifySession."""
    return Verdict(
        code=_code(answer.valid, answer.code, answer.scopes, any_of_scopes),
        type=CredentialType.SESSION,
        credential_id=answer.session_id,
        owner_id=answer.owner_id,
        scopes=tuple(answer.scopes),
        expire_time=_instant(answer.expire_time) if answer.HasField("expire_time") else None,
    )


def of_token(answer: key_service_pb2.VerifyTokenResponse, any_of_scopes: tuple[str, ...] = ()) -> Verdict:
    """Return the verdict in a response of VerifyToken."""
    return Verdict(
        code=_code(answer.valid, answer.code, answer.scopes, any_of_scopes),
        type=CredentialType.SESSION if answer.session_id else CredentialType.KEY,
        credential_id=answer.key_id or answer.session_id,
        owner_id=answer.owner_id,
        scopes=tuple(answer.scopes),
        expire_time=_instant(answer.expire_time) if answer.HasField("expire_time") else None,
        annotations=dict(answer.annotations),
        rate_limits=tuple(map(_limit, answer.rate_limits)),
        retry_after=answer.retry_after.ToMicroseconds() / 1e6 if answer.HasField("retry_after") else None,
        credits_remaining=answer.credits_remaining if answer.HasField("credits_remaining") else None,
    )


def _code(valid: bool, number: int, scopes: Collection[str], any_of_scopes: tuple[str, ...]) -> VerdictCode:
    """Return the code. It is VALID only if both fields agree.

    A service that is too old to know of `any_of_scopes` has not looked at them.
    """
    code = _CODES.get(number, VerdictCode.OTHER)
    if code is VerdictCode.VALID and any_of_scopes and not {FULL_ACCESS, *any_of_scopes}.intersection(scopes):
        return VerdictCode.INSUFFICIENT_SCOPE
    return code if valid is (code is VerdictCode.VALID) else VerdictCode.OTHER


def _limit(state: resources_pb2.RateLimitState) -> RateLimit:
    return RateLimit(
        state.name,
        state.limit,
        state.period.seconds,
        state.remaining,
        state.reset.seconds,
        state.of_owner,
    )


def _instant(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
