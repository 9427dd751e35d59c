"""All use cases of WebhookService in one class."""

from collections.abc import Callable, Sequence
from datetime import datetime

from authsvc.model.address import Network
from authsvc.model.page_token import PageTokens
from authsvc.notifications.webhooks.caller import WebhookCaller
from authsvc.notifications.webhooks.calls import WebhookCalls
from authsvc.notifications.webhooks.changes import WebhookChanges
from authsvc.notifications.webhooks.reads import WebhookReads
from authsvc.notifications.webhooks.signing_keys import SigningKeys
from authsvc.revocation.authority import Authority
from authsvc.store.pool import Database


class Webhooks(WebhookChanges, WebhookReads, WebhookCalls):
    """The use cases of WebhookService.

    The base classes have the methods; this class sets the parts that they declare.
    """

    def __init__(
        self,
        *,
        database: Database,
        authority: Authority,
        keys: SigningKeys,
        webhook_caller: WebhookCaller,
        networks: Sequence[Network],
        page_tokens: PageTokens,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._authority = authority
        self._keys = keys
        self._webhook_caller = webhook_caller
        self._networks = networks
        self._page_tokens = page_tokens
        self._clock = clock
        self._in_test: set[str] = set()
