"""A notification as webhooks get it: a thin JSON object, without secrets."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from authsvc.model.notification import Notification


def body_of(notification: Notification) -> bytes:
    """Return the body of Standard Webhooks 1.0, `{"type", "timestamp", "data"}`, as JSON in UTF-8.

    The timestamp is that of the event. `data` has `owner_id`, `event_id`, `position` (null for what is no
    audit event), `target_id`, the actor, the event's `details`, and the shown fields of the target. All are
    bounded: 512 characters of a detail, 128 of a name.
    """
    return json.dumps(
        {
            "type": notification.type,
            "timestamp": _instant(notification.event_time),
            "data": data_of(notification),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def data_of(notification: Notification) -> Mapping[str, Any]:
    """Return what is told, by name."""
    subject = {
        name: _instant(datetime.fromisoformat(value)) if name.endswith("_time") and value else value
        for name, value in notification.subject.items()
        if name != "client_hints"
    }
    return {
        "event_id": notification.notification_id,
        "position": notification.position,
        "owner_id": notification.owner_id,
        "target_id": notification.target_id,
        "actor_id": notification.actor_id,
        "actor_owner_id": notification.actor_owner_id,
        "actor_type": notification.actor_type,
        "details": dict(notification.details),
        **subject,
    }


def _instant(moment: datetime) -> str:
    """Return an instant in UTC (RFC 3339)."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
