"""The use cases of webhooks, put together."""

from collections.abc import Callable
from datetime import datetime

from authsvc.config.settings import Settings
from authsvc.model.page_token import PageTokens
from authsvc.notifications.webhooks import Webhooks
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.revocation.authority import Authority
from authsvc.store.pool import Database


def signing_keys_of(settings: Settings) -> SigningKeys:
    """Return the keys that the secrets of webhooks are derived from."""
    return SigningKeys([key.get_secret_value() for key in settings.webhook_keys])


def webhooks_of(
    settings: Settings,
    database: Database,
    authority: Authority,
    page_tokens: PageTokens,
    clock: Callable[[], datetime],
) -> Webhooks:
    """Return the use cases on one database, with its authority and clock."""
    keys = signing_keys_of(settings)
    return Webhooks(
        database=database,
        authority=authority,
        keys=keys,
        webhook_caller=WebhookCaller(keys, settings.webhook_networks, clock),
        networks=settings.webhook_networks,
        page_tokens=page_tokens,
        clock=clock,
    )
