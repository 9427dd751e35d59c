"""Calls webhooks."""

from collections.abc import Callable
from datetime import datetime

from authsvc.model.webhook import Attempt, Webhook
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.signing_keys import SigningKeys


class WebhookCaller:
    """Stands in for what makes the calls, which is not part of this service yet: it makes none."""

    def __init__(self, keys: SigningKeys, addresses: AddressRules, clock: Callable[[], datetime]) -> None:
        """Take what signs, which addresses may be called, and the time."""

    async def call(self, webhook: Webhook, message_id: str, body: bytes) -> Attempt:
        """Return that no call was made."""
        return Attempt(0, "webhooks are not called by this version")
