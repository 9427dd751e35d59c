"""A call of a URL, as an operator tries one from the command line."""

import json
import secrets
from datetime import UTC, datetime

from authsvc.config.notification_settings import NotificationSettings
from authsvc.model.caller import PLATFORM_OWNER
from authsvc.model.identifier import new_identifier
from authsvc.model.webhook import Attempt, Outcome, SecretVersion, Webhook
from authsvc.notifications.webhooks.addresses import AddressRules, url_fault
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.signing_keys import SigningKeys


async def call_test(settings: NotificationSettings, url: str) -> Attempt:
    """Send a message of the type `webhook.test` to a URL, by the rules for webhooks; return how that went.

    It is signed by a secret that nobody knows, because a URL has none. A receiver that checks signatures
    refuses it, so the status shows that it was reached, and that it checks.
    """
    if fault := url_fault(url, settings.webhook_networks):
        return Attempt(error=f"the URL {fault}", outcome=Outcome.NOT_ALLOWED)
    now = datetime.now(UTC)
    keys = SigningKeys([secrets.token_bytes(32)])
    caller = WebhookCaller(keys, AddressRules(settings.webhook_networks), lambda: now)
    webhook = Webhook(
        webhook_id=new_identifier("whk", now),
        owner_id=PLATFORM_OWNER,
        url=url,
        create_time=now,
        creator_id="",
        update_time=now,
        secrets=(SecretVersion(1, keys.current_id),),
    )
    timestamp = now.isoformat().replace("+00:00", "Z")
    body = json.dumps({"type": "webhook.test", "timestamp": timestamp, "data": {}}, separators=(",", ":"))
    return await caller.call(webhook, new_identifier("msg", now), body.encode())
