"""Who calls our API, as far as a use case needs to know."""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from authsvc.model.credential import CredentialKind
from authsvc.model.errors import PermissionDenied
from authsvc.model.scope import FULL_ACCESS, missing

# The reserved owner: its credentials act on every owner.
PLATFORM_OWNER = "authsvc"


class Caller(NamedTuple):
    """An authenticated caller. Acts within its own owner, or is the platform."""

    credential_id: str
    owner_id: str
    scopes: tuple[str, ...]
    # What they presented; None for those who presented no credential of ours, so none that can be revoked.
    kind: CredentialKind | None = None
    client_ip: str = ""
    # What the caller names this call in its own logs.
    request_id: str = ""
    # Until when they wait for the answer to a change, by the stopwatch.
    deadline: float = inf
    # The scopes that this call needs.
    required_scopes: tuple[str, ...] = ()

    def acts_on(self, owner_id: str) -> bool:
        """Say whether this caller may see and change what belongs to `owner_id`."""
        return self.owner_id in (owner_id, PLATFORM_OWNER)

    @property
    def quota_owner(self) -> str:
        """Whose share this caller uses: its owner's; who shows no credential does not use the platform's."""
        return "anonymous callers" if self.kind is None and self.credential_id == ANONYMOUS else self.owner_id

    @property
    def confined_to(self) -> str | None:
        """The only owner that this caller acts on; None for the platform."""
        return None if self.owner_id == PLATFORM_OWNER else self.owner_id

    def refuse_other_owner(self, owner_id: str) -> None:
        """Raise PermissionDenied for an owner that the caller does not act on."""
        if not self.acts_on(owner_id):
            raise PermissionDenied(
                f"the caller acts within its own owner {self.owner_id!r} only",
                reason="OWNER_NOT_PERMITTED",
                owner_id=owner_id,
            )

    def refuse_tenant(self, what: str) -> None:
        """Raise PermissionDenied for a caller that is not the platform's; `what` only that may do."""
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


# The id of all who call without any credential, where the operator lets them.
ANONYMOUS = "anonymous"

# Who mints the first administrator key, before there is any credential.
BOOTSTRAP = Caller("bootstrap", PLATFORM_OWNER, (FULL_ACCESS,))
