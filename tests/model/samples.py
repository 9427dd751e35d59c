"""Times and a key for tests to start from."""

from datetime import UTC, datetime, timedelta
from typing import Any

from authsvc.model.key import Key

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
# The resolution of a stored time.
TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)


def a_key(**fields: Any) -> Key:
    """Return an active key, with the given fields replaced."""
    values: dict[str, Any] = {
        "key_id": "key_1",
        "owner_id": "acme",
        "key_prefix": "eg_live_012345678901",
        "display_name": "Orders",
        "create_time": NOW,
        "creator_id": "key_0",
        "update_time": NOW,
    }
    return Key(**values | fields)
