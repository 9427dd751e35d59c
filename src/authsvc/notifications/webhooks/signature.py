"""The headers by which a receiver knows who sent a message (Standard Webhooks 1.0)."""

import hmac
from base64 import b64encode
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256


def signature_headers(
    message_id: str, attempt_time: datetime, body: bytes, secrets: Iterable[bytes]
) -> dict[str, str]:
    """Return the headers of one attempt, signed by each of these secrets, in this order."""
    timestamp = int(attempt_time.timestamp())
    signed = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(
            "v1," + b64encode(hmac.digest(secret, signed, sha256)).decode() for secret in secrets
        ),
    }
