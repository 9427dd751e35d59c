"""The life of a key."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from authsvc.model.caller import ANONYMOUS, Caller
from authsvc.model.delivery import ANSWERED_WITHIN, REPLACED_WITHIN, Delivery
from authsvc.model.errors import FailedPrecondition
from authsvc.model.key import Key, KeyState
from tests.model.samples import HOUR, NOW, TICK, a_key


def test_a_new_key_is_active() -> None:  # rule 12
    """Without expiry and revocation a key is active, and stays so."""
    assert a_key().state(NOW) is KeyState.ACTIVE
    assert a_key().state(datetime.max.replace(tzinfo=NOW.tzinfo)) is KeyState.ACTIVE


def test_expires_at_the_very_instant() -> None:  # rule 13
    """A key is EXPIRED from `now == expire_time` on, and ACTIVE a microsecond before."""
    key = a_key(expire_time=NOW)
    assert [key.state(NOW + d) for d in (-TICK, 0 * TICK, TICK)] == [
        KeyState.ACTIVE,
        KeyState.EXPIRED,
        KeyState.EXPIRED,
    ]


def test_revoked_at_the_very_instant() -> None:  # rule 14
    """A scheduled key is ACTIVE with its `revoke_time` until then, and REVOKED from that instant on."""
    key = a_key().revoked(NOW, at=NOW + HOUR, by="key_9", reason="moved")
    assert key.revoke_time == NOW + HOUR
    assert [key.state(NOW + HOUR + d) for d in (-TICK, 0 * TICK, TICK)] == [
        KeyState.ACTIVE,
        KeyState.REVOKED,
        KeyState.REVOKED,
    ]


def test_revoked_outranks_expired() -> None:  # rule 12
    """An expired key can be revoked and is then REVOKED; a future revocation does not hide the expiry."""
    expired = a_key(expire_time=NOW - HOUR)
    assert expired.revoked(NOW, at=NOW, by="key_9", reason="").state(NOW) is KeyState.REVOKED
    scheduled = expired.revoked(NOW, at=NOW + HOUR, by="key_9", reason="")
    assert scheduled.state(NOW) is KeyState.EXPIRED
    assert scheduled.state(NOW + HOUR) is KeyState.REVOKED


def test_revoking_records_who_and_why() -> None:
    """A revocation records its time, revoker and reason, and is a change."""
    later = NOW + HOUR
    key = a_key().revoked(later, at=later, by="key_9", reason="leaked")
    assert (key.revoke_time, key.revoker_id, key.revoke_reason) == (later, "key_9", "leaked")
    assert (key.update_time, key.version) == (later, 2)


@pytest.mark.parametrize("after", [0 * TICK, TICK, 1000 * HOUR])
@pytest.mark.parametrize("delay", [0 * TICK, HOUR])
def test_revoke_is_final(after: timedelta, delay: timedelta) -> None:  # rules 16, 17
    """From the time of its revocation on, a key cannot be revoked again, neither now nor later."""
    key = a_key().revoked(NOW, at=NOW, by="key_9", reason="leaked")
    now = NOW + after
    with pytest.raises(FailedPrecondition, match="already revoked at 2026-11-21T12:00:00") as refused:
        key.revoked(now, at=now + delay, by="key_8", reason="other")
    assert refused.value.reason == "KEY_ALREADY_REVOKED"
    assert refused.value.metadata == {"key_id": "key_1"}


def test_the_first_stamp_stays() -> None:  # rule 17
    """A refused second revocation keeps the time, revoker and reason of the first."""
    key = a_key().revoked(NOW, at=NOW, by="key_9", reason="leaked")
    with pytest.raises(FailedPrecondition):
        key.revoked(NOW + HOUR, at=NOW + HOUR, by="key_8", reason="other")
    assert (key.revoke_time, key.revoker_id, key.revoke_reason) == (NOW, "key_9", "leaked")


@pytest.mark.parametrize("moved_to", [0 * HOUR, HOUR, 9 * HOUR])
def test_a_scheduled_revocation_can_be_moved(moved_to: timedelta) -> None:  # rule 17
    """Until it takes effect, a revocation can be moved, to now, earlier or later; the last call counts."""
    scheduled = a_key().revoked(NOW, at=NOW + 2 * HOUR, by="key_9", reason="first")
    now = NOW + 2 * HOUR - TICK
    moved = scheduled.revoked(now, at=now + moved_to, by="key_8", reason="second")
    assert (moved.revoke_time, moved.revoker_id, moved.revoke_reason) == (now + moved_to, "key_8", "second")


def test_a_scheduled_revocation_cannot_be_moved_once_effective() -> None:  # rules 16, 17
    """At the scheduled time itself it is too late."""
    scheduled = a_key().revoked(NOW, at=NOW + HOUR, by="key_9", reason="")
    with pytest.raises(FailedPrecondition):
        scheduled.revoked(NOW + HOUR, at=NOW + 2 * HOUR, by="key_9", reason="")


@pytest.mark.parametrize("back", [TICK, HOUR])
def test_a_clock_set_back_does_not_undo_a_revocation(back: timedelta) -> None:  # rules 15, 16
    """A key revoked at once is REVOKED by every clock, including one that was set back or is slow."""
    key = a_key().revoked(NOW, at=NOW, by="key_9", reason="leaked")
    assert key.state(NOW - back) is KeyState.REVOKED


def test_replaced_ends_with_the_grace_period() -> None:  # rule 30
    """A rotated key names its successor and is revoked when the grace period ends."""
    key = a_key().replaced(NOW, at=NOW + HOUR, by="key_9", successor_id="key_2")
    assert key.rotated_to_key_id == "key_2"
    assert (key.revoke_time, key.revoker_id, key.revoke_reason) == (NOW + HOUR, "key_9", "rotated")
    assert key.state(NOW + HOUR - TICK) is KeyState.ACTIVE
    assert key.state(NOW + HOUR) is KeyState.REVOKED
    assert (key.update_time, key.version) == (NOW, 2)


@pytest.mark.parametrize("earlier_by", [0 * TICK, TICK, HOUR])
def test_replaced_keeps_an_earlier_revocation(earlier_by: timedelta) -> None:  # rule 30
    """A revocation scheduled for the end of the grace period or before it keeps its stamp and reason."""
    scheduled = a_key().revoked(NOW, at=NOW + HOUR - earlier_by, by="key_9", reason="contract ends")
    key = scheduled.replaced(NOW, at=NOW + HOUR, by="key_8", successor_id="key_2")
    assert (key.revoke_time, key.revoker_id) == (NOW + HOUR - earlier_by, "key_9")
    assert key.revoke_reason == "contract ends"
    assert key.rotated_to_key_id == "key_2"


def test_replaced_advances_a_later_revocation() -> None:  # rule 30
    """A revocation scheduled for after the grace period does not prolong it."""
    scheduled = a_key().revoked(NOW, at=NOW + 2 * HOUR, by="key_9", reason="contract ends")
    key = scheduled.replaced(NOW, at=NOW + HOUR, by="key_8", successor_id="key_2")
    assert (key.revoke_time, key.revoker_id, key.revoke_reason) == (NOW + HOUR, "key_8", "rotated")


def test_replaced_does_not_prolong_life() -> None:  # rule 30
    """A rotated key keeps its expiry, however long the grace period is."""
    key = a_key(expire_time=NOW + HOUR).replaced(NOW, at=NOW + 9 * HOUR, by="key_9", successor_id="key_2")
    assert key.expire_time == NOW + HOUR
    assert key.state(NOW + HOUR) is KeyState.EXPIRED


CHANGES: dict[str, Callable[[Key], Key]] = {
    "changed": lambda key: key.changed(NOW, display_name="Other"),
    "changed to the same": lambda key: key.changed(NOW),
    "revoked": lambda key: key.revoked(NOW, at=NOW + HOUR, by="key_9", reason=""),
    "replaced": lambda key: key.replaced(NOW, at=NOW, by="key_9", successor_id="key_2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_etag_changes_with_every_change(change: Callable[[Key], Key]) -> None:
    """Each change gives another etag, also one that restores the same values."""
    key = a_key()
    etags = {key.etag, (once := change(key)).etag, once.changed(NOW, display_name="Orders").etag}
    assert len(etags) == 3


def test_etag_does_not_change_with_use() -> None:
    """A use of the key does not invalidate an update."""
    key = a_key()
    used = replace(key, last_use_time=NOW, last_use_ip="192.0.2.1")
    assert used.etag == key.etag


def test_etags_of_two_keys_differ() -> None:
    """An etag is valid for one key only."""
    assert a_key().etag != a_key(key_id="key_2").etag


def test_changed_sets_stamp_and_version() -> None:
    """A change sets the fields and the update time and does not modify the old value."""
    key = a_key()
    changed = key.changed(NOW + HOUR, description="new", scopes=("a:read",))
    assert changed == replace(key, description="new", scopes=("a:read",), update_time=NOW + HOUR, version=2)
    assert key == a_key()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (a_key(revoke_time=NOW), "KEY_ALREADY_REVOKED"),
        (a_key(revoke_time=NOW, expire_time=NOW, rotated_to_key_id="key_2"), "KEY_ALREADY_REVOKED"),
        (a_key(rotated_to_key_id="key_2", revoke_time=NOW + HOUR), "KEY_ALREADY_ROTATED"),
        (a_key(rotated_to_key_id="key_2", expire_time=NOW), "KEY_ALREADY_ROTATED"),
        (a_key(expire_time=NOW), "KEY_EXPIRED"),
    ],
)
def test_refuse_to_rotate(key: Key, reason: str) -> None:  # rule 30
    """A key that is revoked, has a successor or has expired is not rotated; the reason says which."""
    with pytest.raises(FailedPrecondition) as refused:
        key.refuse_to_rotate(NOW)
    assert refused.value.reason == reason
    assert refused.value.metadata["key_id"] == "key_1"


def test_refuse_to_rotate_names_the_successor() -> None:
    """A caller that rotates an old key learns which one to rotate instead."""
    with pytest.raises(FailedPrecondition, match="key_2") as refused:
        a_key(rotated_to_key_id="key_2").refuse_to_rotate(NOW)
    assert refused.value.metadata["rotated_to_key_id"] == "key_2"


@pytest.mark.parametrize(
    "key",
    [
        a_key(),
        a_key(expire_time=NOW + TICK),
        a_key(revoke_time=NOW + TICK),
        a_key(rotated_from_key_id="key_0"),
    ],
    ids=["plain", "expiring", "scheduled", "rotated before"],
)
def test_an_active_key_may_be_rotated(key: Key) -> None:  # rule 30
    """Up to its last microsecond a key may be rotated, one with a scheduled revocation too."""
    key.refuse_to_rotate(NOW)


@pytest.mark.parametrize("key", [a_key(), a_key(expire_time=NOW), a_key(revoke_time=NOW + TICK)])
def test_only_revoked_keys_are_refused_as_revoked(key: Key) -> None:
    """An active, an expired and a scheduled key are not reported as revoked."""
    key.refuse_if_revoked(NOW)


CREATOR = Caller("key_9", "acme", ("keys:write",))


@pytest.mark.parametrize(
    ("delivery", "age", "used", "expected"),
    [
        (None, timedelta(days=1), False, False),
        (Delivery.LOST, timedelta(0), False, True),
        (Delivery.LOST, timedelta(0), True, False),
        (Delivery.PENDING, ANSWERED_WITHIN, False, False),
        (Delivery.PENDING, ANSWERED_WITHIN + TICK, False, True),
        (Delivery.PENDING, ANSWERED_WITHIN + TICK, True, False),
    ],
)
def test_never_delivered(delivery: Delivery | None, age: timedelta, used: bool, expected: bool) -> None:
    """The response is known to be lost, or nothing is known for a minute; and the key was not used."""
    key = a_key(create_time=NOW, delivery=delivery, last_use_time=NOW if used else None)
    assert key.never_delivered(NOW + age) is expected
    assert key.is_answered_still(Caller(key.creator_id, "acme", ()), NOW + age) is (
        delivery is Delivery.PENDING and not used and not expected
    )


def test_who_may_replace_a_key_that_was_never_delivered() -> None:
    """Its creator, for ten minutes, until it is revoked; no callers that cannot be distinguished."""
    lost = a_key(create_time=NOW, creator_id=CREATOR.credential_id, delivery=Delivery.LOST)
    assert lost.may_be_replaced(CREATOR, NOW + REPLACED_WITHIN)
    assert not lost.may_be_replaced(CREATOR, NOW + REPLACED_WITHIN + TICK)
    assert not lost.may_be_replaced(CREATOR._replace(credential_id="key_8"), NOW)
    assert not replace(lost, last_use_time=NOW).may_be_replaced(CREATOR, NOW)
    assert not replace(lost, delivery=None).may_be_replaced(CREATOR, NOW)
    assert not lost.revoked(NOW, at=NOW, by="key_8", reason="").may_be_replaced(CREATOR, NOW)
    anonymous = replace(lost, creator_id=ANONYMOUS)
    assert not anonymous.may_be_replaced(CREATOR._replace(credential_id=ANONYMOUS), NOW)
