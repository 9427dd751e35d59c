"""The device of a new session, from the copy that its notification has."""

import json
from collections.abc import Mapping
from typing import Any

from authsvc.model.client_hints import ClientHints
from authsvc.model.device import Device
from authsvc.sessions.device import describe


def device_of(subject: Mapping[str, Any]) -> Device:
    """Return the device that the user agent and the client hints of a `session.created` describe."""
    hints = ClientHints.of_json(json.dumps(subject.get("client_hints") or {}))
    return describe(str(subject.get("user_agent") or ""), hints)
