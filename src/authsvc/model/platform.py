"""The reserved owner: who may create credentials that act on every owner, and names that look like it.

Owners are often named after users. If a user had the name of the platform, a login service would open
sessions of the platform for that user. People would mistake a similar name for the platform in a list.
"""

from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.errors import FieldViolation, InvalidArgument, PermissionDenied
from authsvc.model.scope import FULL_ACCESS

# All characters that an owner may have besides letters and digits.
_DECORATION = str.maketrans("", "", "._:@-")


def refuse_credential_of(caller: Caller, owner_id: str) -> None:
    """Check who creates or extends a credential of the platform.

    Raises PermissionDenied for a caller without full access.
    """
    if owner_id == PLATFORM_OWNER and caller.lacks([FULL_ACCESS]):
        raise PermissionDenied(
            f"credentials of the owner {PLATFORM_OWNER!r} act on every owner, so creating one needs the "
            f"scope {FULL_ACCESS}; if this is the name of a user, use another owner for them",
            reason="PLATFORM_NEEDS_FULL_ACCESS",
            required_scope=FULL_ACCESS,
        )


def refuse_new_credential(caller: Caller, owner_id: str) -> None:
    """Check the owner of a new credential.

    Raises PermissionDenied like `refuse_credential_of`, and InvalidArgument like `refuse_lookalike`.
    """
    refuse_credential_of(caller, owner_id)
    refuse_lookalike(owner_id)


def refuse_lookalike(owner_id: str, path: str = "owner_id") -> None:
    """Raise InvalidArgument for an owner that people would mistake for the platform."""
    if is_lookalike(owner_id):
        raise InvalidArgument(
            FieldViolation(
                path,
                "owner.reserved",
                f"{owner_id!r} looks like {PLATFORM_OWNER!r}, which is reserved for the platform itself; "
                "use another name",
            )
        )


def is_lookalike(owner_id: str) -> bool:
    """Return whether an owner is the name of the platform with other capitals or with punctuation."""
    return owner_id != PLATFORM_OWNER and owner_id.lower().translate(_DECORATION) == PLATFORM_OWNER
