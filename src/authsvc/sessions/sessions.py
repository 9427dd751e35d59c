"""All use cases of SessionService in one class."""

from collections.abc import Callable
from datetime import datetime

from authsvc.model.catalogue import Catalogue
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.model.session import SessionBounds
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.sessions.create import SessionCreation
from authsvc.sessions.opening import SessionOpenings
from authsvc.sessions.read import SessionReads
from authsvc.sessions.revoke import SessionRevocation
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database


class Sessions(SessionCreation, SessionReads, SessionRevocation):
    """The use cases of SessionService except verification, which `verify.verifier` does.

    The base classes have the methods; this class sets the parts that they declare.
    """

    def __init__(
        self,
        *,
        database: Database,
        authority: Authority,
        barrier: Barrier,
        mint: KeyMint,
        page_tokens: PageTokens,
        clock: Callable[[], datetime],
        brand: str,
        bounds: SessionBounds,
        catalogue: Catalogue,
        policies: PolicyStore,
    ) -> None:
        self._database = database
        self._barrier = barrier
        self._mint = mint
        self._page_tokens = page_tokens
        self._clock = clock
        self._brand = brand
        self._bounds = bounds
        self._catalogue = catalogue
        self._openings = SessionOpenings(database, authority, policies, catalogue)
