"""The body of webhooks."""

import json
from datetime import UTC, datetime

import pytest

from authsvc.model.notification import Notification
from authsvc.model.webhook import MAX_BODY_BYTES
from authsvc.notifications.body import body_of

_NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def _notification(**values: object) -> Notification:
    fields = {
        "notification_id": "evt_1",
        "type": "key.updated",
        "owner_id": "acme",
        "event_time": _NOW,
        "position": 7,
        "target_id": "key_1",
        "details": {},
        "subject": {},
        **values,
    }
    return Notification(**fields)  # type: ignore[arg-type]


def test_what_is_in_it() -> None:
    body = json.loads(
        body_of(
            _notification(
                details={"changed": "display_name"},
                subject={
                    "display_name": "ci",
                    "create_time": "2026-11-21T13:00:00+01:00",
                    "expire_time": None,
                },
            )
        )
    )
    assert body == {
        "type": "key.updated",
        "timestamp": "2026-11-21T12:00:00Z",
        "data": {
            "event_id": "evt_1",
            "position": 7,
            "owner_id": "acme",
            "target_id": "key_1",
            "actor_id": "",
            "actor_owner_id": "",
            "actor_type": "",
            "details": {"changed": "display_name"},
            "display_name": "ci",
            "create_time": "2026-11-21T12:00:00Z",
            "expire_time": None,
        },
    }


# One byte in JSON, two, four, and six, because JSON writes it as \u0001.
@pytest.mark.parametrize("character", ["a", "ä", "😀", "\x01"])
def test_the_largest(character: str) -> None:
    """All texts at their bounds, with more details than any event has: it is cut, and still readable."""
    notification = _notification(
        owner_id="o" * 128,
        target_id="o" * 128,
        actor_id=character * 512,
        details={f"detail_{number}": character * 512 for number in range(20)},
        subject={
            "display_name": character * 128,
            "user_agent": character * 1024,
            "url": "https://" + "a" * 2040,
            "create_time": _NOW.isoformat(),
            "failing_since": _NOW.isoformat(),
        },
    )
    body = body_of(notification)
    assert len(body) < MAX_BODY_BYTES
    data = json.loads(body)["data"]
    assert data["position"] == 7
    assert data["owner_id"] == "o" * 128 or len(character.encode()) > 1
    assert data["details"]["detail_0"].rstrip("…") == character * len(data["details"]["detail_0"].rstrip("…"))
    assert data["create_time"] == "2026-11-21T12:00:00Z"
    assert (data["event_id"], data["failing_since"][:10]) == ("evt_1", "2026-11-21")


def test_short_texts_are_not_cut() -> None:
    """Of what is too long, the longest texts give way."""
    notification = _notification(details={"long": "x" * 30_000, "short": "y" * 200})
    data = json.loads(body_of(notification))["data"]
    assert data["details"]["short"] == "y" * 200
    assert data["details"]["long"].endswith("x…")
