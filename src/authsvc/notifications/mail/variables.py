"""What templates can say of a notification.

Anybody may have written the texts, so they are cleaned and cut, and key strings are redacted.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from authsvc.model.key_string import redact
from authsvc.model.notification import Notification, NotificationType
from authsvc.model.policy import readable_length
from authsvc.model.text import cleaned
from authsvc.notifications.signed_in import device_of

_MAX_LENGTH, _MAX_BRIEF_LENGTH = 300, 100
# Mail programs make links of these.
_LINK = re.compile(r"(?i)://|\b(?:www\.|mailto:|tel:)")
# Also of a name alone, `evil.example`, and of a mail address.
_DOT_OF_A_NAME = re.compile(r"(?<=[\w-])([.\u3002\uff0e\uff61])(?=[^\W\d_]{2})")
# What a mail about several notifications leaves out: what is in the subject of each, or can wait.
_NOT_BRIEF = frozenset({"Key", "Scopes", "Created"})
_LENGTHS, _SECONDS = (
    frozenset({"max_key_lifetime", "rotation_period"}),
    re.compile(r"([0-9]{1,12}(?:\.[0-9]+)?)s"),
)
_ZEROS: Mapping[tuple[str, object], str] = {
    ("max_active_keys", "0"): "no limit",
    ("max_key_lifetime", "0s"): "no limit",
    ("rotation_period", "0s"): "never",
}


class Texts(dict[str, str]):
    """Texts by name. Those that there are not are empty, since not every event has every detail."""

    def __missing__(self, name: str) -> str:
        return ""


def shown(text: object) -> str:
    """Return a text as mail shows it: on one line, without key strings, and not read as a link."""
    return one_line(_DOT_OF_A_NAME.sub(r"\1 ", redact(cleaned(str(text)))))


def one_line(text: str) -> str:
    """Return a text in which variables were `shown`, in the same form. Names in a template stay whole."""
    safe = redact(cleaned(text))
    safe = _LINK.sub(
        lambda found: found[0].replace("://", ": //").replace(".", ". ").replace(":", ": ", 1), safe
    )
    safe = re.sub(r"\s+", " ", safe).strip()
    return _cut(safe, _MAX_LENGTH)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def moment(value: object) -> str:
    """Return an instant for people; "" for none. Anything else is shown as it is."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return shown(value)
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if isinstance(value, datetime) else ""


def variables(notification: Notification) -> dict[str, Any]:
    """Return the variables of a template, by name. docs/notifications.md lists them."""
    subject, details = notification.subject, _details(notification.details)
    revoke_time = subject.get("revoke_time")
    values: dict[str, Any] = {
        "type": notification.type,
        "time": moment(notification.event_time),
        "owner_id": shown(notification.owner_id),
        "target_id": shown(notification.target_id),
        "actor": _actor(notification),
        "key_id": shown(subject.get("key_id") or ""),
        "key_name": shown(subject.get("display_name") or "") or shown(notification.target_id),
        "key_prefix": shown(subject.get("key_prefix") or ""),
        "create_time": moment(subject.get("create_time")),
        "expire_time": moment(subject.get("expire_time")),
        "revoke_time": moment(revoke_time),
        "last_use_time": moment(subject.get("last_use_time")),
        "successor_id": shown(subject.get("rotated_to_key_id") or ""),
        "is_scheduled": isinstance(revoke_time, str) and _is_after(revoke_time, notification.event_time),
        "is_of_all_keys": notification.is_of_all_keys,
        "device": _device(subject),
        "ip_address": shown(subject.get("ip_address") or ""),
        "webhook_id": shown(subject.get("webhook_id") or ""),
        "url": shown(re.sub(r"^\w+://", "", str(subject.get("url") or ""))),
        "disable_reason": shown(subject.get("disable_reason") or ""),
        "failing_since": moment(subject.get("failing_since")),
        "last_error": shown(subject.get("last_error") or ""),
        "details": details,
    }
    facts = _facts(notification, values)
    brief_facts = [
        (label, _cut(value, _MAX_BRIEF_LENGTH)) for label, value in facts if label not in _NOT_BRIEF
    ]
    return values | {"facts": facts, "brief_facts": brief_facts}


def _details(details: Mapping[str, Any]) -> Texts:
    return Texts(
        {
            shown(name): moment(value)
            if str(name).endswith(("_time", "_until"))
            else shown(_readable(name, value))
            for name, value in details.items()
            if value not in (None, "")
        }
    )


def _readable(name: str, value: object) -> object:
    """Return a detail for people: lengths in days, and what a zero of a policy means."""
    if (name, value) in _ZEROS:
        return _ZEROS[name, value]
    if name in _LENGTHS and (match := _SECONDS.fullmatch(str(value))):
        return readable_length(timedelta(seconds=float(match[1])))
    return value


def _actor(notification: Notification) -> str:
    """Return who did it; "" for a warning."""
    if not notification.actor_id:
        return ""
    kind = {"key": "the key ", "session": "the session "}.get(notification.actor_type, "")
    owner = f" of {notification.actor_owner_id}" if notification.actor_owner_id else ""
    return shown(f"{kind}{notification.actor_id}{owner}")


def _is_after(moment: str, other: datetime) -> bool:
    try:
        return datetime.fromisoformat(moment) > other
    except (ValueError, TypeError):
        return False


def _device(subject: Mapping[str, Any]) -> str:
    """Return a device as people call it: `Firefox 128 on Windows 11`."""
    if "user_agent" not in subject:
        return ""
    device = device_of(subject)
    program = f"{device.browser} {device.browser_version}".strip()
    system = " ".join(filter(None, (device.os, device.os_version)))
    where = f"{system} ({device.model})" if system and device.model else system or device.model
    return shown(" on ".join(filter(None, (program, where)))) or "an unknown device"


def _facts(notification: Notification, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to know, each with its label; a label without a value is left out."""
    is_of_key = "key_prefix" in notification.subject
    details: Texts = values["details"]
    facts = [
        ("Key", values["key_name"] if is_of_key else ""),
        ("Prefix", values["key_prefix"]),
        ("Key ID", values["key_id"]),
        ("Webhook", values["webhook_id"]),
        ("Address", values["url"]),
        ("Failing since", values["failing_since"]),
        ("Last error", values["last_error"]),
        ("Device", values["device"]),
        ("IP address", values["ip_address"]),
        ("Owner", values["owner_id"]),
        ("Time", values["time"]),
        ("By", values["actor"]),
        ("Reason", details["reason"]),
        ("Scopes", details["scopes"]),
        ("Created", values["create_time"] if is_of_key else ""),
        ("Last used", (values["last_use_time"] or "never") if is_of_key else ""),
        ("Expires", (values["expire_time"] or "never") if is_of_key else ""),
        ("Works until" if values["is_scheduled"] else "Revoked", values["revoke_time"] if is_of_key else ""),
        ("Successor", values["successor_id"]),
    ]
    if notification.type == NotificationType.POLICY_UPDATED:
        facts += [(name.replace("_", " ").capitalize(), value) for name, value in details.items()]
    return [(label, value) for label, value in facts if value]
