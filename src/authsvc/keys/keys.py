"""All use cases of KeyService in one class."""

from collections.abc import Callable
from datetime import datetime, timedelta

from authsvc.keys.administrator import AdministratorCreation
from authsvc.keys.cascade import KeyCascade
from authsvc.keys.change import Changes
from authsvc.keys.create import KeyCreation
from authsvc.keys.delete import KeyDeletion
from authsvc.keys.deliveries import Deliveries
from authsvc.keys.derive import NO_TOKENS, TokenDerivation, TokenIssue
from authsvc.keys.importing import KeyImport
from authsvc.keys.minting import Minting
from authsvc.keys.pause import KeyPauses
from authsvc.keys.refund import KeyRefunds
from authsvc.keys.replacement import Replacements
from authsvc.keys.revocations import Revocations
from authsvc.keys.revoke import KeyRevocation
from authsvc.keys.self_service import SelfService
from authsvc.keys.update import KeyUpdates
from authsvc.keys.usage import KeyUsageReads
from authsvc.model.catalogue import Catalogue
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.revocation.descendants import Descendants
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.verify.hasher import Hasher
from authsvc.verify.verifier import Verifier


class Keys(
    AdministratorCreation,
    KeyCreation,
    KeyImport,
    SelfService,
    KeyUsageReads,
    KeyUpdates,
    KeyPauses,
    KeyRefunds,
    KeyRevocation,
    KeyCascade,
    KeyDeletion,
    TokenDerivation,
):
    """The use cases of KeyService except verification, which `verify.verifier` does.

    The base classes have the methods; this class sets the parts that they declare.
    """

    def __init__(
        self,
        *,
        database: Database,
        authority: Authority,
        barrier: Barrier,
        verifier: Verifier,
        hasher: Hasher,
        mint: KeyMint,
        page_tokens: PageTokens,
        clock: Callable[[], datetime],
        brand: str,
        catalogue: Catalogue,
        policies: PolicyStore,
        token_issue: TokenIssue = NO_TOKENS,
        grace_margin: timedelta = timedelta(),
    ) -> None:
        self.deliveries = Deliveries(database)
        self._database = database
        self._authority = authority
        self._barrier = barrier
        self._verifier = verifier
        self._page_tokens = page_tokens
        self._clock = clock
        self._catalogue = catalogue
        self._policies = policies
        self._token_issue = token_issue
        self._grace_margin = grace_margin
        self._changes = Changes(barrier, policies)
        self._revocations = Revocations(database, policies, barrier, clock)
        self._descendants = Descendants(database, clock)
        self._replacements = Replacements(database, clock)
        self._minting = Minting(
            database, mint=mint, hasher=hasher, policies=policies, clock=clock, brand=brand
        )
