"""The life of keys: check the caller, ask the owner's policy, do it, make it known.

One module for each use case. Each takes the caller first, so that no transport gets round the
check. Each change runs in one transaction, and what verification has to know of it is
known to every worker before the answer: see `barrier`. Locks are taken in one order, so that
nobody waits in a circle: what `authority` locks (owners, sessions of owners, credentials), a `request_id`,
the count of an owner's active keys, the heads of audit chains, the end of the feed.

    create ─┐                         ┌─ policy, count ─┐
    rotate ─┼─▶ minting ──────────────┤                 ├─▶ store
    update ─┤                         └─ insert ────────┤
    revoke ─┼─▶ change: authority, barrier ─────────────┘
    delete ─┘
"""

from collections.abc import Callable
from datetime import datetime

from authsvc.keys.administrator import EnsureAdministrator
from authsvc.keys.change import Changes
from authsvc.keys.create import CreateKey
from authsvc.keys.delete import DeleteKeys
from authsvc.keys.deliveries import Deliveries
from authsvc.keys.minting import Minting
from authsvc.keys.read import GetKey, ListKeys, LookUpKey
from authsvc.keys.replacement import Replacements
from authsvc.keys.revoke import RevokeKey, RevokeKeys, RevokeOwner
from authsvc.keys.rotate import RotateKey
from authsvc.keys.update import UpdateKey
from authsvc.model.catalogue import Catalogue
from authsvc.model.key_string import KeyMint
from authsvc.model.page_token import PageTokens
from authsvc.revocation.authority import Authority
from authsvc.revocation.barrier import Barrier
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database
from authsvc.verify.hasher import Hasher
from authsvc.verify.verifier import Verifier


class Keys:
    """The use cases of KeyService, each called by its name; verification is the Verifier's."""

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
    ) -> None:
        changes = Changes(barrier, policies)
        self.deliveries = deliveries = Deliveries(database)
        replacements = Replacements(database, clock)
        minting = Minting(database, mint=mint, hasher=hasher, policies=policies, clock=clock, brand=brand)
        self.create = CreateKey(
            authority, barrier, minting, policies, catalogue, clock, deliveries, replacements
        )
        self.get = GetKey(database)
        self.list = ListKeys(database, page_tokens, clock)
        self.look_up = LookUpKey(database, verifier)
        self.update = UpdateKey(changes, catalogue, clock)
        self.rotate = RotateKey(self.get, changes, minting, catalogue, clock, deliveries)
        self.revoke = RevokeKey(changes, catalogue, clock)
        self.revoke_batch = RevokeKeys(changes, clock)
        self.revoke_owner = RevokeOwner(barrier, policies, clock)
        self.delete = DeleteKeys(changes, clock)
        self.ensure_administrator = EnsureAdministrator(database, self.create, clock)
