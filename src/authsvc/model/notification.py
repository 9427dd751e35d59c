"""What contacts and webhooks are told (rule 29)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from authsvc.model.key import TechnicalContact


class NotificationType(StrEnum):
    """What happened, or is about to. The names are those of webhooks, and never change."""

    KEY_CREATED = "key.created"
    KEY_UPDATED = "key.updated"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    KEY_DELETED = "key.deleted"
    KEY_DISABLED = "key.disabled"
    KEY_ENABLED = "key.enabled"
    KEY_ADDRESS_REFUSED = "key.address_refused"
    KEY_EXPIRING = "key.expiring"
    KEY_EXPIRED = "key.expired"
    KEY_UNUSED = "key.unused"
    KEY_ROTATION_DUE = "key.rotation_due"
    SESSION_CREATED = "session.created"
    POLICY_UPDATED = "policy.updated"
    WEBHOOK_FAILING = "webhook.failing"
    WEBHOOK_DISABLED = "webhook.disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One thing to tell. Its id is that of the audit event of the change; a warning has one of its own.

    `position` is that of the event in its owner's chain; None for a warning, which is no event. `subject` is
    what is shown of the target: texts, ISO instants, numbers and nulls. `type` may be one of a later version.
    """

    notification_id: str
    type: str
    owner_id: str
    event_time: datetime
    position: int | None
    target_id: str
    actor_id: str = ""
    actor_owner_id: str = ""
    actor_type: str = ""  # "key" or "session"; "" for a caller without a credential of this service
    details: Mapping[str, str]
    subject: Mapping[str, Any]
    contacts: tuple[TechnicalContact, ...] = ()

    @property
    def is_of_all_keys(self) -> bool:
        """Whether all keys of the owner were revoked at once; the target is the owner then."""
        return self.type == NotificationType.KEY_REVOKED and self.target_id == self.owner_id
