"""What an owner's policy refuses, as a pure function."""

from datetime import timedelta
from typing import Any

import pytest

from authsvc.model.caller import BOOTSTRAP, Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import FailedPrecondition, PermissionDenied
from authsvc.model.key import TechnicalContact
from authsvc.model.policy import KeyEdits, KeyManagers, OwnerPolicy, duration_text
from tests.model.samples import HOUR, NOW, TICK, a_key

DAY = timedelta(days=1)
ADA = TechnicalContact("Ada", "ada@example.org")


def a_policy(**fields: Any) -> OwnerPolicy:
    return OwnerPolicy(owner_id="acme", **fields)


def test_without_limits_everything_goes() -> None:
    """By default a policy forbids nothing: zero and empty mean no limit."""
    policy = a_policy()
    policy.check_new(a_key(scopes=("full_access",)))
    policy.check_update(a_key(), {"scopes": ("a",), "expire_time": None, "technical_contacts": ()})
    policy.refuse_more(10**9)
    policy.refuse_brand("eg")
    policy.refuse_manager(Caller("key_1", "acme", ()))
    assert policy.successor_expire_time(a_key(), NOW) is None


@pytest.mark.parametrize(
    ("policy", "key", "reason", "field", "told"),
    [
        (a_policy(keys_enabled=False), {}, "API_KEYS_NOT_ENABLED", "keys_enabled", "switched off"),
        (
            a_policy(allowed_scopes=("a", "b")),
            {"scopes": ("a", "c", "full_access")},
            "SCOPE_NOT_ALLOWED",
            "allowed_scopes",
            "c, full_access; use some of a, b",
        ),
        (
            a_policy(max_key_lifetime=DAY),
            {"expire_time": NOW + DAY + TICK},
            "KEY_LIFETIME_TOO_LONG",
            "max_key_lifetime",
            "at most 1 day from creation",
        ),
        (a_policy(max_key_lifetime=DAY), {}, "EXPIRATION_REQUIRED", "max_key_lifetime", "within 1 day"),
        (a_policy(expiration_required=True), {}, "EXPIRATION_REQUIRED", "expiration_required", "set one"),
        (a_policy(contacts_required=True), {}, "CONTACTS_REQUIRED", "contacts_required", "contact"),
    ],
)
def test_a_new_key(
    policy: OwnerPolicy, key: dict[str, Any], reason: str, field: str, told: str
) -> None:  # rules 2, 4, 7
    """Each limit has a reason, names the field of the policy, and has the remedy."""
    with pytest.raises(FailedPrecondition) as caught:
        policy.check_new(a_key(**key))
    assert (caught.value.reason, caught.value.metadata["policy_field"]) == (reason, field)
    assert told in caught.value.message
    assert caught.value.message.startswith("the policy of acme ")


def test_what_a_new_key_may_be() -> None:  # rules 2, 4
    """Just within every limit; `full_access` among the allowed scopes allows all."""
    limits = a_policy(
        allowed_scopes=("a",), max_key_lifetime=DAY, expiration_required=True, contacts_required=True
    )
    limits.check_new(a_key(scopes=("a",), expire_time=NOW + DAY, technical_contacts=(ADA,)))
    limits.check_new(a_key(scopes=(), expire_time=NOW + TICK, technical_contacts=(ADA,)))
    a_policy(allowed_scopes=("full_access",)).check_new(a_key(scopes=("full_access", "x")))


@pytest.mark.parametrize("rotated", [False, True])
def test_the_number_of_active_keys(rotated: bool) -> None:  # rule 5
    """The last one within the limit is the third of three; one in its grace period counts for as long."""
    policy = a_policy(max_active_keys=3)
    for others in (0, 2):
        policy.refuse_more(others, rotated=rotated)
    for others in (3, 4):
        with pytest.raises(FailedPrecondition) as caught:
            policy.refuse_more(others, rotated=rotated)
        assert (caught.value.reason, caught.value.metadata["limit"]) == ("MAX_ACTIVE_KEYS", "3")
        assert ("grace period" in caught.value.message) is rotated


@pytest.mark.parametrize("brand", ["", "eg"])
def test_brands(brand: str) -> None:
    """The policy's brand, or none, may be requested; another is refused, and the right one is named."""
    policy = a_policy(brand="eg")
    policy.refuse_brand(brand)
    with pytest.raises(FailedPrecondition, match="requires the brand eg"):
        policy.refuse_brand("other")


@pytest.mark.parametrize(
    ("edits", "allowed"),
    [
        (KeyEdits.NONE, set()),
        (KeyEdits.DETAILS, {"display_name", "description", "technical_contacts"}),
        (
            KeyEdits.ALL,
            {"display_name", "description", "technical_contacts", "scopes", "expire_time", "annotations"},
        ),
    ],
)
def test_what_may_be_edited(edits: KeyEdits, allowed: set[str]) -> None:  # rule 8
    """Nothing, the details, or everything; other requested fields are named, even if unchanged."""
    fields: dict[str, object] = {
        "display_name": "x",
        "description": "x",
        "technical_contacts": (ADA,),
        "scopes": (),
        "expire_time": None,
        "annotations": {},
    }
    policy = a_policy(key_edits=edits)
    policy.check_update(a_key(), {name: fields[name] for name in allowed})
    for name in fields.keys() - allowed:
        with pytest.raises(FailedPrecondition) as caught:
            policy.check_update(a_key(), {"display_name": "x", name: fields[name]})
        assert caught.value.reason == "KEY_EDIT_NOT_ALLOWED"
        assert name in caught.value.metadata["fields"].split(",")
        assert ("display_name" in caught.value.metadata["fields"].split(",")) == (edits is KeyEdits.NONE)


def test_an_update_is_judged_by_what_it_changes() -> None:  # rules 2, 4, 8
    """Existing values of a key may stay, and may be sent again; only new ones have to be allowed."""
    policy = a_policy(
        allowed_scopes=("a",), max_key_lifetime=DAY, expiration_required=True, contacts_required=True
    )
    old = a_key(scopes=("x", "y"))
    policy.check_update(old, {"scopes": ("a", "x"), "expire_time": None, "technical_contacts": ()})
    policy.check_update(old, {"expire_time": NOW + DAY})
    for fields, reason in (
        ({"scopes": ("x", "y", "z")}, "SCOPE_NOT_ALLOWED"),
        ({"expire_time": NOW + DAY + TICK}, "KEY_LIFETIME_TOO_LONG"),
    ):
        with pytest.raises(FailedPrecondition) as caught:
            policy.check_update(old, fields)
        assert caught.value.reason == reason
    for key, taken, reason in (
        (a_key(expire_time=NOW + HOUR), "expire_time", "EXPIRATION_REQUIRED"),
        (a_key(technical_contacts=(ADA,)), "technical_contacts", "CONTACTS_REQUIRED"),
    ):
        with pytest.raises(FailedPrecondition) as caught:
            policy.check_update(key, {taken: () if taken == "technical_contacts" else None})
        assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("most", "length", "expected"),
    [
        (timedelta(0), None, None),
        (timedelta(0), 3 * DAY, 3 * DAY),
        (DAY, None, DAY),
        (DAY, 3 * DAY, DAY),
        (DAY, HOUR, HOUR),
    ],
)
def test_how_long_a_successor_lives(
    most: timedelta, length: timedelta | None, expected: timedelta | None
) -> None:  # rule 30
    """As long as the key that it replaces, but no longer than the policy allows."""
    old = a_key(expire_time=None if length is None else NOW + length)
    later = NOW + 2 * DAY
    expire_time = a_policy(max_key_lifetime=most).successor_expire_time(old, later)
    assert expire_time == (None if expected is None else later + expected)


def test_who_manages() -> None:  # rule 6
    """With SESSIONS_ONLY the owner's keys and certificates cannot; its sessions and the platform can."""
    policy = a_policy(key_managers=KeyManagers.SESSIONS_ONLY)
    policy.refuse_manager(Caller("ses_1", "acme", (), CredentialKind.SESSION))
    policy.refuse_manager(Caller("key_1", "authsvc", (), CredentialKind.KEY))
    policy.refuse_manager(BOOTSTRAP)
    for kind in (CredentialKind.KEY, None):
        with pytest.raises(PermissionDenied) as caught:
            policy.refuse_manager(Caller("key_1", "acme", (), kind))
        assert caught.value.reason == "KEY_MANAGER_NOT_PERMITTED"


@pytest.mark.parametrize(
    ("length", "text"),
    [(timedelta(0), "0s"), (90 * DAY, "7776000s"), (timedelta(microseconds=1_500_000), "1.5s")],
)
def test_lengths_of_time_as_texts(length: timedelta, text: str) -> None:
    """In full, also beyond a million seconds."""
    assert duration_text(length) == text


def test_the_platform_has_no_policy() -> None:
    """Whatever the default is, the platform has no limits and cannot be disabled."""
    default = OwnerPolicy(keys_enabled=False, max_active_keys=1, contacts_required=True, rotation_period=DAY)
    assert default.of("authsvc") == OwnerPolicy(owner_id="authsvc", rotation_period=DAY)
    assert default.of("acme").max_active_keys == 1
    for own in (None, False, True):
        assert default.enables_keys("authsvc", own)


@pytest.mark.parametrize("default", [True, False])
def test_whether_keys_work(default: bool) -> None:  # rule 7
    """The owner's own setting takes precedence over the default."""
    policy = OwnerPolicy(keys_enabled=default)
    assert policy.enables_keys("acme", None) is default
    assert policy.enables_keys("acme", True)
    assert not policy.enables_keys("acme", False)


def test_each_version_has_an_etag() -> None:
    """It differs between versions and between owners."""
    first = a_policy()
    second = first.changed(NOW, brand="eg")
    assert (second.version, second.update_time, second.brand) == (1, NOW, "eg")
    assert len({first.etag, second.etag, OwnerPolicy(owner_id="globex").etag}) == 3
