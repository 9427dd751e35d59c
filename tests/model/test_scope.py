"""Scopes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.model.scope import FULL_ACCESS, OWN_SCOPES, missing
from authsvc.v1 import (
    key_service_pb2,
    options_pb2,
    replica_service_pb2,
    scope_service_pb2,
    session_service_pb2,
    webhook_service_pb2,
)

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
    """Only the exact scope matches: `x:write` does not grant `x:read`, nor does a part or a pattern."""
    assert missing((granted,), [required]) == [required]


@given(scopes)
def test_full_access_grants_all(required: list[str]) -> None:  # rule 22
    """With full access nothing is missing."""
    assert missing((FULL_ACCESS,), required) == []
    assert missing(("orders:read", FULL_ACCESS), required) == []


@given(scopes)
def test_nothing_required_nothing_missing(granted: list[str]) -> None:
    """A caller that requires no scope lacks none."""
    assert missing(granted, []) == []


@given(scopes.filter(lambda granted: FULL_ACCESS not in granted), scopes)
def test_missing_keeps_the_order(granted: list[str], required: list[str]) -> None:
    """Those that are not granted are returned in the requested order."""
    assert missing(granted, required) == [scope for scope in required if scope not in set(granted)]


def test_own_scopes() -> None:
    """The scopes that authsvc requires of its own callers."""
    sessions = {"sessions:verify", "sessions:read", "sessions:write"}
    policies = {"policies:read", "policies:write"}
    keys = {"keys:verify", "keys:read", "keys:self", "keys:write"}
    webhooks = {"webhooks:read", "webhooks:write"}
    others = {"full_access", "tokens:derive", "audit_logs:read", "replicas:read", "holders:follow"}
    assert set(OWN_SCOPES) == keys | sessions | policies | webhooks | others
    assert all(OWN_SCOPES.values())


def test_each_rpc_asks_for_a_scope_that_there_is() -> None:
    """The access table of the API and the catalogue match."""
    asked = {
        method.GetOptions().Extensions[options_pb2.required_scope]
        for file in (
            key_service_pb2,
            replica_service_pb2,
            scope_service_pb2,
            session_service_pb2,
            webhook_service_pb2,
        )
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not method.GetOptions().Extensions[options_pb2.open_to_all]
    }
    assert {"keys:verify", "replicas:read"} <= asked <= set(OWN_SCOPES)
