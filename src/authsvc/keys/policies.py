"""The policies of owners: reading and updating what an owner may do with API keys.

The platform decides on policies (by the plan of an owner, for example), so only callers of the platform may
update one. An update waits for every creation, rotation and update of keys that relies on the previous
policy. If it may switch keys on or off, or change where or how often they may be used, it returns when no
worker acts on the previous policy (see `revocation.barrier`). The package docstring lists the errors that
every use case can raise.
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
from authsvc.model.policy import OwnerPolicy, duration_text
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import policies as policy_store
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Database

# The fields that verification reads.
_VERIFIED = frozenset({"keys_enabled", "allowed_networks", "rate_limits"})


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
        """Return the current policy of an owner: its own, or else the operator's default.

        Raises:
            PermissionDenied: OWNER_NOT_PERMITTED.
        """
        caller.refuse_other_owner(owner_id)
        async with self._database.connection() as connection:
            return await self._store.find(connection, owner_id)

    async def update(
        self, caller: Caller, owner_id: str, fields: Mapping[str, object], etag: str
    ) -> OwnerPolicy:
        """Update an owner's policy; return it. `fields` has the new values by name.

        An owner with the default policy gets a policy of its own. If an owner's own policy has all of these
        values already, nothing is written and nothing is recorded. An `etag` that is not empty has to be that
        of the policy.

        Raises:
            PermissionDenied: PLATFORM_ONLY, if the caller is not of the platform's owner.
            FailedPrecondition: PLATFORM_HAS_NO_POLICY, for the platform's owner.
            InvalidArgument: INVALID_FIELD, if a scope is unknown, or `owner_id` resembles the platform's.
            Conflict: ETAG_MISMATCH, if the policy has changed since the caller read it.
        """
        caller.refuse_tenant("change a policy")
        if owner_id == PLATFORM_OWNER:
            raise FailedPrecondition(
                f"the owner {PLATFORM_OWNER!r} has no policy, so that it cannot lock itself out; "
                "revoke those of its keys that are not needed",
                reason="PLATFORM_HAS_NO_POLICY",
            )
        platform.refuse_lookalike(owner_id, path="policy.owner_id")
        if isinstance(scopes := fields.get("allowed_scopes"), tuple):
            self._catalogue.check_known(scopes, path="policy.allowed_scopes")
        takes = fields.get("keys_enabled") is False or "allowed_networks" in fields
        claim = Claim(changes_owner=owner_id, revokes=takes)
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
                await policy_store.save(change.connection, changed)
                await audit.record(
                    change.connection,
                    caller,
                    Action.OWNER_POLICY_UPDATED,
                    at=now,
                    target_id=owner_id,
                    owner_id=owner_id,
                    details={name: _audit_text(value) for name, value in fields.items()},
                )
            # Also if nothing changes: workers may not have confirmed an earlier call (R7), and workers with
            # another default policy have cached that one.
            if not _VERIFIED.isdisjoint(fields) or not policy.version:
                change.owner_id, change.kind = owner_id, CredentialKind.KEY
        return changed


def _audit_text(value: object) -> str:
    """Return a value of a field as the audit log shows it. An empty value has a text, too."""
    match value:
        case Enum():
            return value.name
        case tuple():
            return " ".join(map(str, value)) or "any"
        case timedelta():
            return duration_text(value)
        case _:
            return str(value).lower() or "none"
