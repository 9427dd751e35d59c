"""The caller of an RPC, as use cases see it."""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from authsvc.model.confirmation import Confirmation
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import PermissionDenied
from authsvc.model.scope import FULL_ACCESS, missing

# The reserved owner. Its credentials act on every owner.
PLATFORM_OWNER = "authsvc"


class Caller(NamedTuple):
    """An authenticated caller. It acts on its own owner, or is the platform and acts on all."""

    credential_id: str
    owner_id: str
    scopes: tuple[str, ...]
    # The kind of credential that was presented; None for a certificate or none, which cannot be revoked here.
    kind: CredentialKind | None = None
    client_ip: str = ""
    # The id of this call in the caller's own logs.
    request_id: str = ""
    # When the caller stops waiting for the answer to a change, on the stopwatch.
    deadline: float = inf
    # The scopes that this call needs.
    required_scopes: tuple[str, ...] = ()
    # Where it is noted what the change of this call waited for, if somebody wants to know.
    confirmation: Confirmation | None = None
    # The public part of the credential that was presented; empty if `kind` is None.
    key_prefix: str = ""

    def acts_on(self, owner_id: str) -> bool:
        """Return whether this caller may see and change what belongs to `owner_id`."""
        return self.owner_id in (owner_id, PLATFORM_OWNER)

    @property
    def quota_owner(self) -> str:
        """The owner to whose limits this caller counts. Anonymous callers share one of their own."""
        return "anonymous callers" if self.kind is None and self.credential_id == ANONYMOUS else self.owner_id

    @property
    def confined_to(self) -> str | None:
        """The only owner that this caller acts on; None for the platform."""
        return None if self.owner_id == PLATFORM_OWNER else self.owner_id

    @property
    def is_stranger(self) -> bool:
        """Whether nothing is known of this caller, who acts on no owner."""
        return self.kind is None and not self.owner_id

    def refuse_other_owner(self, owner_id: str) -> None:
        """Raise PermissionDenied for an owner that the caller does not act on."""
        if not self.acts_on(owner_id):
            raise PermissionDenied(
                f"the caller acts within its own owner {self.owner_id!r} only",
                reason="OWNER_NOT_PERMITTED",
                owner_id=owner_id,
            )

    def refuse_tenant(self, what: str) -> None:
        """Raise PermissionDenied for a caller that is not the platform; `what` completes the message."""
        if self.confined_to is not None:
            raise PermissionDenied(
                f"only callers of the owner {PLATFORM_OWNER!r} may {what}", reason="PLATFORM_ONLY"
            )

    def refuse_without_scopes(self) -> None:
        """Raise PermissionDenied unless the caller has the scopes that its call needs."""
        if lacking := self.lacks(self.required_scopes):
            raise PermissionDenied(
                f"the call needs the scope {' and '.join(lacking)}",
                reason="SCOPE_MISSING",
                required_scope=lacking[0],
            )

    def lacks(self, scopes: Iterable[str]) -> list[str]:
        """Return those of `scopes` that the caller does not have."""
        return missing(self.scopes, scopes)


# The id of callers without a credential, if the operator allows them.
ANONYMOUS = "anonymous"

# The caller that mints the first administrator key, before there is any credential.
BOOTSTRAP = Caller("bootstrap", PLATFORM_OWNER, (FULL_ACCESS,))

# Who calls an RPC that is open to all without a credential.
STRANGER = Caller(ANONYMOUS, "", ())

# Revokes what was reported as leaked, whoever has reported it.
LEAK_REPORT = Caller("leak-report", PLATFORM_OWNER, (FULL_ACCESS,))

# Ends the grace period of keys that were rotated and are not used any more.
GRACE_END = Caller("rotation", PLATFORM_OWNER, (FULL_ACCESS,))

# Who acts for the service itself, by their ids.
INTERNAL = frozenset(caller.credential_id for caller in (BOOTSTRAP, LEAK_REPORT, GRACE_END))
