"""The use cases of webhooks, put together."""

from collections.abc import Callable
from datetime import datetime

from authsvc.config.settings import Settings
from authsvc.model.page_token import PageTokens
from authsvc.notifications.webhooks import Webhooks
from authsvc.notifications.webhooks.addresses import AddressRules
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.revocation.authority import Authority
from authsvc.store.pool import Database


def signing_keys_of(settings: Settings) -> SigningKeys:
    """Return the keys that the secrets of webhooks are derived from."""
    return SigningKeys([key.get_secret_value() for key in settings.webhook_keys])


def webhook_caller_of(settings: Settings, clock: Callable[[], datetime]) -> WebhookCaller:
    """Return what calls webhooks."""
    return WebhookCaller(signing_keys_of(settings), AddressRules(settings.webhook_networks), clock)


def webhooks_of(
    settings: Settings,
    database: Database,
    authority: Authority,
    page_tokens: PageTokens,
    clock: Callable[[], datetime],
) -> Webhooks:
    """Return the use cases on one database, with its authority and clock."""
    return Webhooks(
        database=database,
        authority=authority,
        keys=signing_keys_of(settings),
        webhook_caller=webhook_caller_of(settings, clock),
        networks=settings.webhook_networks,
        page_tokens=page_tokens,
        clock=clock,
    )
