"""A webhook: an address of an owner that is told of what happens, and what its secrets are derived from."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from authsvc.model.key import TechnicalContact

#: The longest body, in bytes (Standard Webhooks 1.0).
MAX_BODY_BYTES = 20_000


class DisableReason(StrEnum):
    """Why a webhook is not called. OWNER: by an update."""

    OWNER = ""
    GONE = "gone"  # it answered 410
    FAILING = "failing"  # it failed for days


class SecretVersion(NamedTuple):
    """What a secret is derived from. It signs until `expire_time`; None: until it is replaced."""

    generation: int
    key_id: str  # which of the operator's keys
    expire_time: datetime | None = None


class Attempt(NamedTuple):
    """The outcome of a call of a webhook. `error` is empty for a success, and has no part of a response."""

    status: int = 0  # of HTTP; 0: no response
    error: str = ""
    retry_after: timedelta | None = None  # as the response says


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook without its secret. The platform's are told of all owners."""

    webhook_id: str
    owner_id: str
    url: str
    description: str = ""
    event_types: tuple[str, ...] = ()  # sorted; empty: all
    technical_contacts: tuple[TechnicalContact, ...] = ()
    enabled: bool = True
    disable_reason: DisableReason = DisableReason.OWNER
    create_time: datetime
    creator_id: str
    update_time: datetime
    version: int = 1
    secrets: tuple[SecretVersion, ...]  # the newest first
    failing_since: datetime | None = None
    warn_time: datetime | None = None

    def signing(self, now: datetime) -> tuple[SecretVersion, ...]:
        """Return the versions that sign at `now`, the newest first."""
        return tuple(each for each in self.secrets if each.expire_time is None or now < each.expire_time)
