"""The reserved owner: who may make credentials that act on every owner, and names that only look like it.

Owners are often the names of users. A login service that opens a session for a user who is called as the
platform is would hand out the platform; one whose name looks like it would be taken for it in a list.
"""

from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.errors import FieldViolation, InvalidArgument, PermissionDenied
from authsvc.model.scope import FULL_ACCESS

# All that an owner may have besides letters and digits.
_DECORATION = str.maketrans("", "", "._:@-")


def refuse_credential_of(caller: Caller, owner_id: str) -> None:
    """Refuse to make or extend a credential of the platform for a caller without full access."""
    if owner_id == PLATFORM_OWNER and caller.lacks([FULL_ACCESS]):
        raise PermissionDenied(
            f"credentials of the owner {PLATFORM_OWNER!r} act on every owner, so making one needs the scope "
            f"{FULL_ACCESS}; if this is the name of a user, they need another one",
            reason="PLATFORM_NEEDS_FULL_ACCESS",
            required_scope=FULL_ACCESS,
        )


def refuse_new_credential(caller: Caller, owner_id: str) -> None:
    """Refuse likewise, and for every caller an owner that looks like the platform."""
    refuse_credential_of(caller, owner_id)
    refuse_lookalike(owner_id)


def refuse_lookalike(owner_id: str, path: str = "owner_id") -> None:
    """Raise InvalidArgument for an owner that people would take for the platform."""
    if is_lookalike(owner_id):
        raise InvalidArgument(
            FieldViolation(
                path,
                "owner.reserved",
                f"{owner_id!r} looks like {PLATFORM_OWNER!r}, the owner that is the platform itself; "
                "use another name",
            )
        )


def is_lookalike(owner_id: str) -> bool:
    """Say whether an owner is the platform's name in other capitals, or with punctuation in it."""
    return owner_id != PLATFORM_OWNER and owner_id.lower().translate(_DECORATION) == PLATFORM_OWNER
