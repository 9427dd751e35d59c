"""The state of a key as people want to know it: also whether it ends soon."""

from datetime import datetime, timedelta
from typing import NamedTuple

from authsvc.v1.resources_pb2 import Key, KeyState
from authsvc.web.console.page_request import PageRequest
from authsvc.web.console.shown import instant

_SOON, _VERY_SOON = timedelta(days=30), timedelta(days=7)
#: A key that was used within this time is likely to be in use.
IN_USE = timedelta(days=1)


class Badge(NamedTuple):
    """The name of a text, a tone, and the instant that the text is about, if it is about one."""

    name: str
    tone: str
    moment: datetime | None = None


def badge_of(key: Key, now: datetime) -> Badge:
    """Return what the badge of a key says."""
    if key.state == KeyState.KEY_STATE_REVOKED:
        return Badge("revoked", "off")
    if key.state == KeyState.KEY_STATE_EXPIRED:
        return Badge("expired", "off")
    if is_disabled(key):
        if key.HasField("disabled_until"):
            return Badge("disabled_until", "warn", instant(key.disabled_until))
        return Badge("disabled", "warn")
    if key.never_delivered:
        return Badge("never_delivered", "bad")
    if key.HasField("revoke_time"):
        return Badge("ends", "bad", instant(key.revoke_time))
    if key.HasField("expire_time"):
        end = instant(key.expire_time)
        if end - now <= _VERY_SOON:
            return Badge("expires", "bad", end)
        if end - now <= _SOON:
            return Badge("expires", "warn", end)
    return Badge("active", "good")


def is_in_use(key: Key, now: datetime) -> bool:
    """Return whether a key was used a short time ago."""
    return key.HasField("last_use_time") and now - instant(key.last_use_time) <= IN_USE


def is_revoked(key: Key) -> bool:
    """Return whether the revocation of a key has taken effect."""
    return key.state == KeyState.KEY_STATE_REVOKED


def is_active(key: Key) -> bool:
    """Return whether a key works, as far as it is up to the key."""
    return key.state == KeyState.KEY_STATE_ACTIVE


def is_disabled(key: Key) -> bool:
    """Return whether a key is disabled now."""
    return key.state == KeyState.KEY_STATE_DISABLED


def hindrance(key: Key, request: PageRequest) -> str:
    """Return why the caller cannot enable a key that is disabled, by the name of a text; "" if it can."""
    if not is_disabled(key):
        return ""
    if key.disabled_by_platform and not request.is_platform:
        return "platform"
    return "" if request.may(*key.scopes) else "scopes"


def actions_of(key: Key) -> list[str]:
    """Return what can be done to a key in its state, by the names of the pages that do it."""
    if is_revoked(key):
        return ["delete"]
    actions = ["edit", "revoke"]
    if is_active(key):
        # One that is disabled is enabled by a button of its page.
        actions[1:1] = ["disable"] if key.rotated_to_key_id else ["rotate", "disable"]
    return actions
