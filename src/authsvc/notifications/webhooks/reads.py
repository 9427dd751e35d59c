"""GetWebhook, ListWebhooks, ListWebhookDeliveries."""

from typing import Protocol

from authsvc.model.caller import Caller
from authsvc.model.page import Page
from authsvc.model.page_token import PageTokens
from authsvc.model.webhook import Webhook, WebhookQuery
from authsvc.model.webhook_delivery import DeliveryQuery, WebhookDelivery
from authsvc.notifications.webhooks.registered import visible
from authsvc.store import webhooks as webhook_store
from authsvc.store.pages import SMALL_PAGE
from authsvc.store.pool import Database


class WebhookReads(Protocol):
    """Reads webhooks and their deliveries."""

    _database: Database
    _page_tokens: PageTokens

    async def get(self, caller: Caller, webhook_id: str) -> Webhook:
        """Return a webhook.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND, if it is unknown or of another owner (rule 19).
        """
        async with self._database.connection() as connection:
            found = await webhook_store.find(connection, webhook_id, owner_id=caller.confined_to)
        return visible(caller, webhook_id, found)

    async def list(
        self, caller: Caller, query: WebhookQuery, *, page_size: int, page_token: str
    ) -> Page[Webhook]:
        """Return a page of an owner's webhooks.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
            InvalidArgument: INVALID_FIELD, if `page_token` was issued for another query or is too old.
        """
        caller.refuse_other_owner(query.owner_id)
        after = self._page_tokens.open(query, page_token).item_id if page_token else ""
        in_transaction = page_size > SMALL_PAGE
        async with self._database.listing(caller.quota_owner, in_transaction=in_transaction) as connection:
            page, more = await webhook_store.page(connection, query.owner_id, size=page_size, after=after)
        return Page(page, more, lambda last: self._page_tokens.seal(query, ("", last.webhook_id)))

    async def list_deliveries(
        self, caller: Caller, query: DeliveryQuery, *, page_size: int, page_token: str
    ) -> Page[WebhookDelivery]:
        """Return a page of the deliveries of a webhook.

        Raises:
            NotFound: WEBHOOK_NOT_FOUND, if the webhook is unknown or of another owner (rule 19).
            InvalidArgument: INVALID_FIELD, if `page_token` was issued for another query or is too old.
        """
        before = self._page_tokens.open(query, page_token).item_id if page_token else ""
        in_transaction = page_size > SMALL_PAGE
        async with self._database.listing(caller.quota_owner, in_transaction=in_transaction) as connection:
            found = await webhook_store.find(connection, query.webhook_id, owner_id=caller.confined_to)
            visible(caller, query.webhook_id, found)
            page, more = await webhook_store.delivery_page(connection, query, size=page_size, before=before)
        return Page(page, more, lambda last: self._page_tokens.seal(query, ("", last.delivery_id)))
