"""Audit events: who did what to which resource, when and from where (rule 28).

An event never contains a key string: each text is redacted, and cut to the maximum length, when the event is
made.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import NamedTuple, Self

from authsvc.model.caller import Caller
from authsvc.model.confirmation import Recorded
from authsvc.model.identifier import new_identifier
from authsvc.model.key_string import redact
from authsvc.model.page_token import Position

_MAX_TEXT_LENGTH = 512


class Action(StrEnum):
    """What was done. The name of an action never changes, because it is recorded."""

    KEY_CREATED = "KEY_CREATED"
    KEY_IMPORTED = "KEY_IMPORTED"
    KEY_UPDATED = "KEY_UPDATED"
    KEY_ROTATED = "KEY_ROTATED"
    KEY_REVOKED = "KEY_REVOKED"
    KEY_DELETED = "KEY_DELETED"
    KEY_DISABLED = "KEY_DISABLED"
    KEY_ENABLED = "KEY_ENABLED"
    KEY_CREDITS_REFUNDED = "KEY_CREDITS_REFUNDED"
    KEY_ADDRESS_REFUSED = "KEY_ADDRESS_REFUSED"
    OWNER_KEYS_REVOKED = "OWNER_KEYS_REVOKED"
    SESSION_CREATED = "SESSION_CREATED"
    SESSION_REVOKED = "SESSION_REVOKED"
    OWNER_SESSIONS_REVOKED = "OWNER_SESSIONS_REVOKED"
    OWNER_POLICY_UPDATED = "OWNER_POLICY_UPDATED"
    REFUSED = "REFUSED"
    EVENTS_DROPPED = "EVENTS_DROPPED"
    TAG_KEY_ROTATED = "TAG_KEY_ROTATED"
    TAG_KEY_RETIRED = "TAG_KEY_RETIRED"
    CHANGE_CONFIRMED = "CHANGE_CONFIRMED"
    WEBHOOK_CREATED = "WEBHOOK_CREATED"
    WEBHOOK_UPDATED = "WEBHOOK_UPDATED"
    WEBHOOK_DELETED = "WEBHOOK_DELETED"
    WEBHOOK_SECRET_ROTATED = "WEBHOOK_SECRET_ROTATED"  # noqa: S105 - no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that was done, or refused. Unknown values are empty.

    `owner_id` is the owner of the target. `action` is one of `Action`, or one of a later version.
    """

    event_id: str
    event_time: datetime
    action: str
    actor_id: str
    actor_owner_id: str
    actor_type: str  # "key" or "session"; "" for a caller without a credential of this service
    owner_id: str
    target_id: str
    client_ip: str
    request_id: str
    details: Mapping[str, str]

    @classmethod
    def of(
        cls,
        caller: Caller,
        action: Action,
        *,
        at: datetime,
        target_id: str,
        owner_id: str,
        details: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the event for an action of a caller. Details without a value are left out."""
        [event] = cls.of_each(caller, action, at=at, targets=[(target_id, owner_id, details or {})])
        return event

    @classmethod
    def of_each(
        cls,
        caller: Caller,
        action: Action,
        *,
        at: datetime,
        targets: Iterable[tuple[str, str, Mapping[str, str]]],
    ) -> list[Self]:
        """Return an event for each target: its id, its owner and the details.

        They are noted in the caller's confirmation.
        """
        # Many of the texts are the same for all targets.
        kept = cache(_kept)
        actor_type = caller.kind.value if caller.kind else ""
        events = [
            cls(
                event_id=new_identifier("evt", at),
                event_time=at,
                action=action,
                actor_id=kept(caller.credential_id),
                actor_owner_id=kept(caller.owner_id),
                actor_type=actor_type,
                owner_id=owner_id,
                target_id=kept(target_id),
                client_ip=kept(caller.client_ip),
                request_id=kept(caller.request_id),
                details={name: kept(value) for name, value in details.items() if value},
            )
            for target_id, owner_id, details in targets
        ]
        if caller.confirmation is not None:
            caller.confirmation.recorded.extend(
                Recorded(each.event_id, each.target_id, each.owner_id) for each in events
            )
        return events


class Link(NamedTuple):
    """A place in the chain of an owner: the position, from 1 on, and the hash of the event there."""

    position: int
    hash: bytes


class ChainedEvent(NamedTuple):
    """An event in the chain of its owner, after `previous_hash`."""

    event: AuditEvent
    link: Link
    previous_hash: bytes


class UnreadableEvent(NamedTuple):
    """An event that this service cannot have recorded; `problem` says why."""

    owner_id: str
    event_id: str
    link: Link
    previous_hash: bytes
    problem: str


class AuditPosition(NamedTuple):
    """The last event of a page."""

    event_time: datetime
    position: int

    @classmethod
    def read(cls, position: Position) -> Self:
        """Return the position from a page token."""
        value, item_id = position
        if not isinstance(value, datetime):
            raise TypeError(f"events are in the order of instants, not of {value!r}")
        return cls(value, int(item_id))


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """The events of an owner that match all of these filters, newest first. An empty filter matches all."""

    owner_id: str
    actions: tuple[str, ...] = ()
    actor_id: str = ""
    target_id: str = ""
    time_after: datetime | None = None  # inclusive
    time_before: datetime | None = None  # exclusive
    after_position: int = 0


def _kept(text: str) -> str:
    """Return a text as it is stored: without key strings and what PostgreSQL cannot store, and cut."""
    return redact(text.replace("\0", "\ufffd").encode("utf-8", "replace").decode())[:_MAX_TEXT_LENGTH]
