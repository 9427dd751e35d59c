"""Scopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.scope import FULL_ACCESS, OWN_SCOPES, missing

scopes = st.lists(
    st.sampled_from(["orders:read", "orders:write", "orders", "orders:read:all", "keys:read", FULL_ACCESS])
)


@pytest.mark.parametrize(
    ("granted", "required"),
    [
        ("orders:write", "orders:read"),
        ("orders:read", "orders:write"),
        ("orders", "orders:read"),
        ("orders:read:all", "orders:read"),
        ("orders:read", "Orders:read"),
        ("orders:*", "orders:read"),
        ("keys:write", "keys:read"),
        ("full_access2", "orders:read"),
        ("orders:read", FULL_ACCESS),
    ],
)
def test_no_scope_implies_another(granted: str, required: str) -> None:  # rule 22
    """Only the very scope will do: `x:write` does not grant `x:read`, nor does a part or a pattern."""
    assert missing((granted,), [required]) == [required]


@given(scopes)
def test_full_access_grants_all(required: list[str]) -> None:  # rule 22
    """With full access nothing is missing."""
    assert missing((FULL_ACCESS,), required) == []
    assert missing(("orders:read", FULL_ACCESS), required) == []


@given(scopes)
def test_nothing_required_nothing_missing(granted: list[str]) -> None:
    """Whoever asks for no scope lacks none."""
    assert missing(granted, []) == []


@given(scopes.filter(lambda granted: FULL_ACCESS not in granted), scopes)
def test_missing_keeps_the_order(granted: list[str], required: list[str]) -> None:
    """Those that are not granted are told in the order asked for."""
    assert missing(granted, required) == [scope for scope in required if scope not in set(granted)]


def test_own_scopes() -> None:
    """What authsvc asks of its own callers."""
    sessions = {"sessions:verify", "sessions:read", "sessions:write"}
    policies = {"policies:read", "policies:write"}
    others = {"full_access", "keys:verify", "keys:read", "keys:write", "replicas:read", "audit_logs:read"}
    assert others | sessions | policies == OWN_SCOPES
