"""Uses of keys, counted in memory and written in the background."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.model.errors import Unavailable
from authsvc.model.key_use import MAX_ROWS, OTHER, KeyUse, network_of, program_of
from authsvc.verify.key_uses import KeyUseLog, KeyUses
from tests.verify.parts import FakeUseStore

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
IPS = [f"10.0.{number}.{host}" for number in range(4) for host in (1, 2)]
AGENTS = ["", "curl/8.5.0", "curl/8.5.1 libcurl", "a/" + "1" * 600, "Mozilla/5.0 " + "x" * 200 + " Firefox/1"]


def note(
    noted: KeyUses, key_id: str = "key_1", ip: str = "10.0.0.1", agent: str = "", **more: object
) -> None:
    asked = {"now": NOW, "owner_id": "acme", "verifier_id": "key_v", **more}
    noted.note(key_id, client_ip=ip, user_agent=agent, **asked)  # type: ignore[arg-type]


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 3),
            st.sampled_from(IPS),
            st.sampled_from(AGENTS),
            st.sampled_from(["key_v", "key_w"]),
            st.integers(-3, 3),
            st.integers(1, 5),
        ),
        max_size=60,
    ),
    st.integers(1, 20),
)
def test_every_use_is_counted_once(asked: list[tuple[int, str, str, str, int, int]], every: int) -> None:
    """Whatever the order; also when counts are taken and taken back in between. The last use is right."""
    uses, expected = KeyUses(), Counter[tuple[str, ...]]()
    last: dict[str, datetime] = {}
    for number, (key, ip, agent, verifier_id, seconds, count) in enumerate(asked):
        key_id, now = f"key_{key}", NOW + seconds * SECOND
        note(uses, key_id, ip, agent, now=now, verifier_id=verifier_id, uses=count)
        expected[key_id, verifier_id, network_of(ip), program_of(agent)] += count
        last[key_id] = max(last.get(key_id, now), now)
        if number % every == 0:
            uses.keep(uses.take())
    taken = uses.take()
    assert Counter({each[:1] + each[2:5]: each.uses for each in taken}) == expected
    assert len(taken) == len(expected)
    for key_id, time in last.items():
        assert max(each.last_use_time for each in taken if each.key_id == key_id) == time
    assert uses.take() == []
    assert (uses._size, uses._text, +uses._of_owner, +uses._size_of_owner) == (0, 0, Counter(), Counter())


def test_a_key_has_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after counts for the verifier, and for other verifiers when there are too many of them."""
    uses = KeyUses()
    for number in range(500):
        note(uses, ip=f"10.{number // 256}.{number % 256}.1", verifier_id=f"key_{number % 60:02}")
    taken = uses.take()
    assert sum(each.uses for each in taken) == 500
    assert len(taken) <= MAX_ROWS
    assert (OTHER, OTHER, OTHER) in {each[2:5] for each in taken}
    note(uses)
    assert len(uses.take()) == 1


def test_a_flood_for_one_owner_leaves_room_for_others() -> None:
    """Of keys, and of addresses; counts of an owner that has no room are of fewer rows, and not lost."""
    uses = KeyUses(limit=100)
    for number in range(1000):
        note(uses, f"key_m{number}", owner_id="mallory")
    assert uses.dropped == 950
    for number in range(1000):
        note(uses, "key_m1", f"10.{number // 256}.{number % 256}.1", f"a{number}", owner_id="mallory")
    for number in range(9):
        note(uses, "key_a", f"192.0.{number}.1")
    taken = uses.take()
    assert sum(each.uses for each in taken if each.owner_id == "mallory") == 1050
    assert sum(each.owner_id == "mallory" for each in taken) <= 50 + 50 + 8 + 2
    assert sum(each.owner_id == "acme" for each in taken) == 9


def test_user_agents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that there is no room for, the program is kept, which counts the same."""
    monkeypatch.setattr("authsvc.verify.key_uses.MAX_TEXT_LENGTH", 1000)
    uses = KeyUses()
    for number in range(100):
        note(uses, f"key_{number}", agent=f"agent{number}/1.0 {'x' * 100}")
    assert uses._text <= 1000 + 100 * len("agent99/1")
    assert {each.program for each in uses.take()} == {f"agent{number}/1" for number in range(100)}
    assert uses._text == 0


async def test_a_failure_keeps_what_was_not_written() -> None:
    """The batch that failed is kept, and so is what comes after it; nothing is written twice."""
    store = FakeUseStore()
    log = KeyUseLog(store)
    for number in range(2500):
        note(log, f"key_{number:04}")
    store.faults = [None, Unavailable("gone", reason="GONE", retry_after=1)]
    with pytest.raises(Unavailable):
        await log.flush()
    assert len(store.counts) == 1000
    note(log, "key_2000")
    await log.flush()
    counted = Counter[str]()
    for each in store.counts:
        counted[each.key_id] += each.uses
    assert counted == Counter({f"key_{number:04}": 1 + (number == 2000) for number in range(2500)})


def test_the_day_is_that_of_the_last_use() -> None:
    """In UTC; and it is kept when counts are taken back."""
    uses, midnight = KeyUses(), datetime(2026, 11, 22, tzinfo=UTC)
    for seconds in (-2, -1):
        note(uses, now=midnight + seconds * SECOND)
    before = uses.take()
    uses.keep(before)
    note(uses, now=midnight)
    found = {each.day: each.uses for each in uses.take()}
    assert found == {(midnight - SECOND).date(): 2, midnight.date(): 1}


def test_what_is_kept_of_a_row_that_stands_for_others() -> None:
    """It stays what it is, whatever the address of its last use."""
    uses = KeyUses()
    row = KeyUse("key_1", NOW.date(), "key_v", OTHER, OTHER, 7, NOW, "10.0.0.1", "acme")
    uses.keep([row])
    note(uses)
    assert {each.network: each.uses for each in uses.take()} == {OTHER: 7, "10.0.0.0/24": 1}
