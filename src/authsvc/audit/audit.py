"""ListAuditEvents."""

from authsvc.model.audit_event import AuditPosition, AuditQuery, ChainedEvent
from authsvc.model.caller import Caller
from authsvc.model.page import Page
from authsvc.model.page_token import PageTokens
from authsvc.store import audit as audit_store
from authsvc.store.pages import SMALL_PAGE
from authsvc.store.pool import Database


class Audit:
    """The use cases of AuditService."""

    def __init__(self, *, database: Database, page_tokens: PageTokens) -> None:
        self._database = database
        self._page_tokens = page_tokens

    async def list(
        self, caller: Caller, query: AuditQuery, *, page_size: int, page_token: str
    ) -> Page[ChainedEvent]:
        """Return a page of an owner's events, newest first.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
            InvalidArgument: INVALID_FIELD, if `page_token` was issued for another query or is too old.
            Overloaded: DATABASE_QUEUE_FULL or DATABASE_BUSY.
            Unavailable: DATABASE_UNAVAILABLE, or another reason of `store.driver_errors`.
        """
        caller.refuse_other_owner(query.owner_id)
        after = AuditPosition.read(self._page_tokens.open(query, page_token)) if page_token else None
        in_transaction = page_size > SMALL_PAGE
        async with self._database.listing(caller.quota_owner, in_transaction=in_transaction) as connection:
            page, more = await audit_store.page(connection, query, size=page_size, after=after)

        def seal(last: ChainedEvent) -> str:
            return self._page_tokens.seal(query, (last.event.event_time, str(last.link.position)))

        return Page(page, more, seal)
