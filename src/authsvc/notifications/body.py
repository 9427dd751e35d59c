"""A notification as webhooks get it: a thin JSON object, without secrets.

Bound: `MAX_BODY_BYTES`. Texts that would make it larger are cut, the longest ones first.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from authsvc.model.notification import Notification, NotificationType
from authsvc.model.webhook import MAX_BODY_BYTES
from authsvc.notifications.signed_in import device_of

_DEVICE_FIELDS = ("browser", "browser_version", "os", "os_version", "device_type", "model")
# Where cutting begins, in characters.
_LONGEST_TEXT = 1024


def body_of(notification: Notification) -> bytes:
    """Return the body of Standard Webhooks 1.0, `{"type", "timestamp", "data"}`, as JSON in UTF-8.

    The timestamp is that of the event. `data` has `owner_id`, `event_id`, `position` (null for what is no
    audit event), `target_id`, the actor, the event's `details`, and the shown fields of the target. It has
    less than `MAX_BODY_BYTES`: a text that is cut for that ends in "…".
    """
    data, length = data_of(notification), _LONGEST_TEXT
    body = _encoded(notification, data)
    while len(body) >= MAX_BODY_BYTES and length:
        body = _encoded(notification, _cut(data, length))
        length //= 2
    return body


def _encoded(notification: Notification, data: Any) -> bytes:
    return json.dumps(
        {"type": notification.type, "timestamp": _instant(notification.event_time), "data": data},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def _cut(value: Any, length: int) -> Any:
    """Return a value with its texts cut to so many characters."""
    if isinstance(value, str):
        return value if len(value) <= length else value[: length - 1] + "…"
    if isinstance(value, Mapping):
        return {name: _cut(each, length) for name, each in value.items()}
    if isinstance(value, list):
        return [_cut(each, length) for each in value]
    return value


def data_of(notification: Notification) -> Mapping[str, Any]:
    """Return what is told, by name."""
    subject = {
        name: _instant(datetime.fromisoformat(value)) if name.endswith("_time") and value else value
        for name, value in notification.subject.items()
        if name != "client_hints"
    }
    if notification.type == NotificationType.SESSION_CREATED:
        device = device_of(notification.subject)
        subject["device"] = {name: getattr(device, name) for name in _DEVICE_FIELDS}
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
