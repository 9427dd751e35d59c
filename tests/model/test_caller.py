"""The caller."""

from authsvc.model.caller import BOOTSTRAP, PLATFORM_OWNER, Caller

TENANT = Caller("key_1", "acme", ("keys:read",))
PLATFORM = Caller("key_2", PLATFORM_OWNER, ("keys:read",))


def test_acts_on_its_own_owner_only() -> None:  # rule 19
    """A caller acts only on its own owner, not on another, the platform or a similar name."""
    assert TENANT.acts_on("acme")
    assert not any(TENANT.acts_on(owner) for owner in ("globex", "", "acme2", "acm", "ACME", PLATFORM_OWNER))


def test_platform_acts_on_every_owner() -> None:
    """A caller of the platform acts on all, itself included."""
    assert all(PLATFORM.acts_on(owner) for owner in ("acme", "globex", PLATFORM_OWNER))


def test_lacks() -> None:  # rule 6
    """The missing scopes are in order; the platform has no scope that it was not given."""
    assert TENANT.lacks(["keys:write", "keys:read", "full_access"]) == ["keys:write", "full_access"]
    assert PLATFORM.lacks(["keys:write"]) == ["keys:write"]


def test_bootstrap_may_do_all() -> None:
    """The caller that creates the first key acts on every owner and lacks nothing."""
    assert BOOTSTRAP.acts_on("acme")
    assert BOOTSTRAP.lacks(["full_access", "orders:read"]) == []
