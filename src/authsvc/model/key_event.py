"""The audit events of changes to keys."""

from collections.abc import Collection, Iterable
from datetime import datetime

from authsvc.model.audit_event import Action, AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.key import Key, RevokeCause


def key_events(
    caller: Caller,
    action: Action,
    keys: Iterable[Key],
    *,
    at: datetime,
    fields: Collection[str] = (),
    reason: str = "",
) -> list[AuditEvent]:
    """Return an event for each of these keys, given as they are after the change; `fields` were updated."""
    targets = [(key.key_id, key.owner_id, _details(action, key, fields, reason)) for key in keys]
    return AuditEvent.of_each(caller, action, at=at, targets=targets)


def _details(action: Action, key: Key, fields: Collection[str], reason: str) -> dict[str, str]:
    match action:
        case Action.KEY_CREATED | Action.KEY_IMPORTED:
            return {
                "scopes": " ".join(key.scopes),
                "expire_time": _instant(key.expire_time),
                "allowed_networks": " ".join(key.allowed_networks),
                "rate_limits": " ".join(map(str, key.rate_limits)),
                "credits": "" if key.credits is None else str(key.credits),
            }
        case Action.KEY_UPDATED:
            details = {"fields": ",".join(sorted(fields))}
            if "scopes" in fields:
                details["scopes"] = " ".join(key.scopes)
            if "expire_time" in fields:
                details["expire_time"] = _instant(key.expire_time) or "never"
            if "allowed_networks" in fields:
                details["allowed_networks"] = " ".join(key.allowed_networks) or "any"
            if "rate_limits" in fields:
                details["rate_limits"] = " ".join(map(str, key.rate_limits)) or "none"
            if "credits" in fields:
                details["credits"] = "none" if key.credits is None else str(key.credits)
            return details
        case Action.KEY_ROTATED:
            return {"rotated_to_key_id": key.rotated_to_key_id, "revoke_time": _instant(key.revoke_time)}
        case Action.KEY_REVOKED:
            details = {"revoke_time": _instant(key.revoke_time), "reason": key.revoke_reason}
            if key.revoke_cause is RevokeCause.CREATOR_REVOKED:
                details |= revoked_with(key.revoked_with_key_id)
            return details
        case Action.KEY_DISABLED if key.pause is not None:
            return {"disabled_until": _instant(key.pause.until), "reason": key.pause.reason}
        case Action.KEY_ENABLED:
            return {"reason": reason}
        case _:
            return {}


def refund_event(caller: Caller, key: Key, *, amount: int, refund_id: str, at: datetime) -> AuditEvent:
    """Return the event of credits that were given back."""
    details = {"amount": str(amount), "refund_id": refund_id}
    [event] = AuditEvent.of_each(
        caller, Action.KEY_CREDITS_REFUNDED, at=at, targets=[(key.key_id, key.owner_id, details)]
    )
    return event


def revoked_with(key_id: str) -> dict[str, str]:
    """Return the details of what ended because the key that created it, directly or not, was revoked."""
    return {"cause": RevokeCause.CREATOR_REVOKED.name, "revoked_with_key_id": key_id}


def _instant(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
