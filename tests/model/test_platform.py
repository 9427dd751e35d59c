"""Which callers may create credentials of the platform, and which names only look like it."""

import pytest

from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.errors import InvalidArgument, PermissionDenied
from authsvc.model.platform import is_lookalike, refuse_credential_of, refuse_new_credential

_LOGIN = Caller("key_1", "authsvc", ("keys:write", "sessions:write"))


@pytest.mark.parametrize(
    "owner_id",
    [
        "AUTHSVC",
        "Authsvc",
        "authSvc",
        "auth-svc",
        "auth_svc",
        "auth.svc",
        "authsvc.",
        "@authsvc",
        "-AUTH:SVC-",
    ],
)
def test_what_looks_like_the_platform(owner_id: str) -> None:
    """It is refused for every caller, with the remedy."""
    assert is_lookalike(owner_id)
    for caller in (_LOGIN, BOOTSTRAP):
        with pytest.raises(InvalidArgument) as refused:
            refuse_new_credential(caller, owner_id)
        [violation] = refused.value.violations
        assert (violation.field, violation.rule) == ("owner_id", "owner.reserved")
        assert "use another name" in violation.description


@pytest.mark.parametrize(
    "owner_id", ["acme", "authsvc2", "my-authsvc", "authsvc@example.org", "user:authsvc.example", "auth", "."]
)
def test_what_does_not(owner_id: str) -> None:
    """It is an owner like any other."""
    assert not is_lookalike(owner_id)
    refuse_new_credential(_LOGIN, owner_id)


def test_credentials_of_the_platform_need_full_access() -> None:
    """Whatever else a caller of the platform may do."""
    for refuse in (refuse_credential_of, refuse_new_credential):
        with pytest.raises(PermissionDenied, match="full_access") as refused:
            refuse(_LOGIN, "authsvc")
        assert refused.value.reason == "PLATFORM_NEEDS_FULL_ACCESS"
        refuse(BOOTSTRAP, "authsvc")
