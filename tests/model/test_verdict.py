"""Verdicts on credentials whose secret was proved."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from authsvc.model.credential import FOREVER, Credential
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode, decide
from tests.model.samples import HOUR, NOW, TICK


def a_credential(
    *, expire_time: datetime | None = None, revoke_time: datetime | None = None, scopes: tuple[str, ...] = ()
) -> Credential:
    return Credential("key_1", "acme", scopes, expire_time, revoke_time, {})


def test_valid() -> None:  # rule 20
    """An active credential with the required scopes is VALID, and the verdict includes it."""
    credential = a_credential(
        expire_time=NOW + TICK, revoke_time=NOW + TICK, scopes=("orders:read", "orders:write")
    )
    assert decide(credential, ["orders:write", "orders:read"], NOW) == Verdict(VerdictCode.VALID, credential)


@pytest.mark.parametrize(
    ("after", "code"),
    [(-TICK, VerdictCode.VALID), (0 * TICK, VerdictCode.EXPIRED), (TICK, VerdictCode.EXPIRED)],
)
def test_expiry_is_exclusive(after: timedelta, code: VerdictCode) -> None:  # rule 13
    """Refused from the time `now >= expire_time` on."""
    assert decide(a_credential(expire_time=NOW), (), NOW + after).code is code


@pytest.mark.parametrize(
    ("after", "code"),
    [(-TICK, VerdictCode.VALID), (0 * TICK, VerdictCode.REVOKED), (TICK, VerdictCode.REVOKED)],
)
def test_revocation_is_exclusive(after: timedelta, code: VerdictCode) -> None:  # rule 14
    """A scheduled revocation has no effect until then, and takes effect exactly at that time."""
    assert decide(a_credential(revoke_time=NOW), (), NOW + after).code is code


@pytest.mark.parametrize("expire_time", [NOW - HOUR, NOW + HOUR])
def test_revoked_comes_first(expire_time: datetime) -> None:  # rule 12
    """A revoked credential is REVOKED, expired or not, whatever scope it lacks."""
    credential = a_credential(revoke_time=NOW, expire_time=expire_time)
    assert decide(credential, ["orders:read"], NOW).code is VerdictCode.REVOKED


def test_expired_comes_before_scope() -> None:  # rule 20
    """An expired credential is EXPIRED, whatever scope it lacks."""
    assert decide(a_credential(expire_time=NOW), ["orders:read"], NOW).code is VerdictCode.EXPIRED


@pytest.mark.parametrize("granted", [(), ("orders:write",), ("orders:read",)])
def test_insufficient_scope(granted: tuple[str, ...]) -> None:  # rules 20, 22
    """One missing scope is enough; `x:write` is not `x:read`."""
    credential = a_credential(scopes=granted)
    verdict = decide(credential, ["orders:read", "orders:write"], NOW)
    assert verdict == Verdict(VerdictCode.INSUFFICIENT_SCOPE, credential)


def test_full_access() -> None:  # rule 22
    """Full access satisfies every scope."""
    assert decide(a_credential(scopes=("full_access",)), ["orders:read"], NOW).code is VerdictCode.VALID


def test_no_scope_required() -> None:
    """Without a required scope, a credential with none is VALID."""
    assert decide(a_credential(), (), NOW).code is VerdictCode.VALID


def test_not_found_tells_nothing() -> None:  # rule 21
    """The verdict on an unknown string has no credential."""
    assert Verdict(VerdictCode.NOT_FOUND, None) == NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, VerdictCode.DISABLED),
        ({"scopes": ("orders:read",)}, VerdictCode.DISABLED),
        ({"expire_time": NOW + TICK, "revoke_time": NOW + TICK}, VerdictCode.DISABLED),
        ({"expire_time": NOW}, VerdictCode.EXPIRED),
        ({"revoke_time": NOW}, VerdictCode.REVOKED),
    ],
)
def test_disabled(fields: dict[str, Any], code: VerdictCode) -> None:  # rule 7
    """Final states come first, then DISABLED, whatever scope is required."""
    credential = replace(a_credential(**fields), disabled_until=FOREVER)
    assert decide(credential, ["orders:read"], NOW) == Verdict(code, credential)
