"""GetSession, ListSessions."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from authsvc.model.caller import Caller
from authsvc.model.errors import NotFound
from authsvc.model.page import Page
from authsvc.model.page_token import PageTokens
from authsvc.model.session import Session
from authsvc.model.session_query import SessionPosition, SessionQuery
from authsvc.store import sessions as session_store
from authsvc.store.pages import SMALL_PAGE
from authsvc.store.pool import Database


class SessionReads(Protocol):
    """Reads sessions."""

    _database: Database
    _page_tokens: PageTokens
    _clock: Callable[[], datetime]

    async def get(self, caller: Caller, session_id: str) -> Session:
        """Return a session.

        Raises:
            NotFound: SESSION_NOT_FOUND, if it is unknown or of another owner (rule 19).
        """
        async with self._database.connection() as connection:
            found = await session_store.find(connection, [session_id], owner_id=caller.confined_to)
        return visible(caller, session_id, found.get(session_id))

    async def list(
        self, caller: Caller, query: SessionQuery, *, page_size: int, page_token: str
    ) -> Page[Session]:
        """Return a page of an owner's sessions.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
            InvalidArgument: INVALID_FIELD, if `page_token` was issued for another query or is too old.
        """
        caller.refuse_other_owner(query.owner_id)
        after = SessionPosition.read(self._page_tokens.open(query, page_token)) if page_token else None
        in_transaction = page_size > SMALL_PAGE
        async with self._database.listing(caller.quota_owner, in_transaction=in_transaction) as connection:
            page, more = await session_store.page(
                connection,
                query.owner_id,
                include_ended=query.include_ended,
                now=self._clock(),
                size=page_size,
                after=after,
            )

        def seal(last: Session) -> str:
            return self._page_tokens.seal(query, SessionPosition(last.last_activity_time, last.session_id))

        return Page(page, more, seal)


def visible(caller: Caller, session_id: str, session: Session | None) -> Session:
    """Return the session; raise NotFound if it is unknown or of another owner (rule 19)."""
    if session is None or not caller.acts_on(session.owner_id):
        raise NotFound(
            f"session {session_id} is not known", reason="SESSION_NOT_FOUND", session_id=session_id
        )
    return session
