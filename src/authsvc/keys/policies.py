"""What owners may do with API keys: look at it, and change it.

A policy is the platform's word about an owner (its plan), so only callers of the
platform change one. A change waits for every create, rotation and update that relied on
the policy before, so nothing slips in beside it; and where it may switch keys on or off, it is
answered when no worker anywhere acts on what was before: see `barrier`.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum

from authsvc import audit
from authsvc.model import platform
from authsvc.model.audit_event import Action
from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import Conflict, FailedPrecondition
from authsvc.model.policy import OwnerPolicy
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import policies as policy_rows
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database


class Policies:
    """The use cases of OwnerPolicyService."""

    def __init__(
        self,
        *,
        database: Database,
        barrier: Barrier,
        store: PolicyStore,
        catalogue: Catalogue,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._barrier = barrier
        self._store = store
        self._catalogue = catalogue
        self._clock = clock

    async def get(self, caller: Caller, owner_id: str) -> OwnerPolicy:
        """Return the policy that an owner has now."""
        caller.refuse_other_owner(owner_id)
        async with self._database.connection() as connection:
            return await self._store.find(connection, owner_id)

    async def update(
        self, caller: Caller, owner_id: str, fields: Mapping[str, object], etag: str
    ) -> OwnerPolicy:
        """Change the given fields of an owner's policy; it is the owner's own from then on.

        Where an own one has all of these values already, it stays as it is and nothing is recorded.
        """
        caller.refuse_tenant("change a policy")
        if owner_id == PLATFORM_OWNER:
            raise FailedPrecondition(
                f"the owner {PLATFORM_OWNER!r} has no policy, so that it cannot lock itself out; "
                "revoke its keys that are not needed",
                reason="PLATFORM_HAS_NO_POLICY",
            )
        platform.refuse_lookalike(owner_id, path="policy.owner_id")
        if isinstance(scopes := fields.get("allowed_scopes"), tuple):
            self._catalogue.check_known(scopes, path="policy.allowed_scopes")
        claim = Claim(changes_owner=owner_id, revokes=fields.get("keys_enabled") is False)
        async with self._barrier.change(caller, claim) as change:
            policy = await self._store.find(change.connection, owner_id)
            if etag and etag != policy.etag:
                raise Conflict(
                    f"the policy of {owner_id} was changed since it was read; "
                    "get it again and repeat the change",
                    reason="ETAG_MISMATCH",
                )
            changed = policy
            if not policy.version or policy.differs(fields):
                now = self._clock()
                changed = policy.changed(now, **fields)
                await policy_rows.save(change.connection, changed)
                await audit.record(
                    change.connection,
                    caller,
                    Action.OWNER_POLICY_UPDATED,
                    at=now,
                    target_id=owner_id,
                    owner_id=owner_id,
                    details={name: _told(value) for name, value in fields.items()},
                )
            # Also when nothing seems to change: an earlier call may not have been waited for (R7), and
            # workers that have another default policy remember what that said until there is a row.
            if "keys_enabled" in fields or not policy.version:
                change.owner_id, change.kind = owner_id, CredentialKind.KEY
        return changed


def _told(value: object) -> str:
    """Return what the audit log says of a field; an empty value is told, too."""
    match value:
        case Enum():
            return value.name
        case tuple():
            return " ".join(value) or "any"
        case timedelta():
            return f"{value.total_seconds():g}s"
        case _:
            return str(value).lower() or "none"
