"""A webhook: an address of an owner that is told of what happens, and what its secrets are derived from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple, Self

from authsvc.model.errors import FailedPrecondition, FieldViolation, InvalidArgument
from authsvc.model.key import TechnicalContact
from authsvc.model.notification import NotificationType

#: The longest body, in bytes (Standard Webhooks 1.0).
MAX_BODY_BYTES = 20_000
#: Webhooks of an owner.
MAX_WEBHOOKS = 20
#: Secrets that sign at a time: each makes the header of a call longer.
MAX_SECRETS = 5
#: How long a replaced secret signs as well, unless the caller says otherwise.
USUAL_OVERLAP = timedelta(hours=24)
#: When calls that were paused go on: not beside a call that may be in progress, which takes 15 s at most.
CALL_AGAIN = timedelta(seconds=20)
#: The type of a test. No webhook listens to it.
TEST_TYPE = "webhook.test"
# How many unknown types an error names.
_MAX_REPORTED = 5


class DisableReason(StrEnum):
    """Why a webhook is not called. OWNER: by an update."""

    OWNER = ""
    GONE = "gone"  # it answered 410
    FAILING = "failing"  # it failed for days


class Outcome(StrEnum):
    """How a call of a webhook ended. The names are those of a metric."""

    DELIVERED = "delivered"
    ANSWERED = "answered"  # with a status other than 2xx
    UNREACHABLE = "unreachable"  # no response
    NOT_ALLOWED = "not_allowed"  # its address may not be called, so nothing was sent
    UNSIGNED = "unsigned"  # by a fault on our side, so nothing was sent


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
    outcome: Outcome = Outcome.DELIVERED


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

    @property
    def etag(self) -> str:
        """An identifier of this version of the webhook."""
        return blake2b(f"{self.webhook_id}/{self.version}".encode(), digest_size=8).hexdigest()

    def old_secret_expire_time(self, now: datetime) -> datetime | None:
        """Return when the last of the replaced secrets ends; None if none signs at `now`."""
        return max((end for _, _, end in self.signing(now) if end is not None), default=None)

    def differs(self, fields: Mapping[str, object]) -> bool:
        """Return whether one of these fields has another value."""
        return any(getattr(self, name) != value for name, value in fields.items())

    def changed(self, now: datetime, **fields: object) -> Self:
        """Return the next version with other fields.

        What is known of failures is forgotten when it is enabled, or gets another URL.
        """
        changed = replace(self, update_time=now, version=self.version + 1, **fields)  # type: ignore[arg-type]
        if changed.enabled and not self.enabled:
            changed = replace(changed, disable_reason=DisableReason.OWNER, failing_since=None, warn_time=None)
        if changed.url != self.url:
            changed = replace(changed, failing_since=None, warn_time=None)
        return changed

    def call_again(self, previous: Self, now: datetime) -> datetime | None:
        """Return when paused calls go on, because they may succeed after this change; None if not."""
        again = self.enabled and (not previous.enabled or self.url != previous.url)
        return now + CALL_AGAIN if again else None

    def rotated(self, now: datetime, key_id: str, overlap: timedelta) -> Self:
        """Return the next version with a new secret. The old ones sign for `overlap` at most.

        Raises FailedPrecondition (MAX_WEBHOOK_SECRETS) when too many secrets would sign.
        """
        end = now + overlap
        old = self.signing(now) if overlap else ()
        kept = [each._replace(expire_time=min(each.expire_time or end, end)) for each in old]
        if len(kept) >= MAX_SECRETS:
            raise FailedPrecondition(
                f"webhook {self.webhook_id} has {len(kept)} secrets in use, which is the maximum; rotate "
                "with an overlap of 0 to end the old ones at once, or wait until one has ended",
                reason="MAX_WEBHOOK_SECRETS",
                webhook_id=self.webhook_id,
                limit=str(MAX_SECRETS),
            )
        new = SecretVersion(self.secrets[0].generation + 1, key_id)
        return replace(self, update_time=now, version=self.version + 1, secrets=(new, *kept))


class WebhookQuery(NamedTuple):
    """The webhooks of an owner, the oldest first."""

    owner_id: str


def check_event_types(types: Sequence[str], path: str) -> None:
    """Raise InvalidArgument for types that no event has; each is named with the nearest one that there is."""
    unknown = [each for each in types if each not in set(NotificationType)]
    if unknown:
        raise InvalidArgument(
            *(
                FieldViolation(path, "event_types.known", _unknown_type(each))
                for each in unknown[:_MAX_REPORTED]
            )
        )


def _unknown_type(name: str) -> str:
    known = [each.value for each in NotificationType]
    if name == TEST_TYPE:
        return f"{name} is sent by TestWebhook, whatever a webhook listens to; leave it out"
    if nearest := get_close_matches(name.lower(), known, 1):
        return f"{name!r} is not a type of event; did you mean {nearest[0]}?"
    return f"{name!r} is not a type of event; use some of {', '.join(known)}, or leave it empty for all"
