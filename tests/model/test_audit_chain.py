"""The chain: what is hashed, and how each kind of tampering is detected."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256

import pytest

from authsvc.model.audit_anchor import Anchor
from authsvc.model.audit_chain import BEGINNING, Chain, hash_of
from authsvc.model.audit_event import Action, AuditEvent, ChainedEvent, Link
from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.key_string import KeyMint

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CALLER = Caller("key_1", "acme", ("keys:write",), CredentialKind.KEY, "192.0.2.1", "req-1")


def event(target_id: str = "key_2", at: datetime = NOW, **details: str) -> AuditEvent:
    return AuditEvent.of(
        CALLER, Action.KEY_CREATED, at=at, target_id=target_id, owner_id="acme", details=details
    )


def appended(after: Link, new: AuditEvent) -> ChainedEvent:
    """Return an event that follows a link, with the right hash."""
    position = after.position + 1
    unhashed = ChainedEvent(new, Link(position, b""), after.hash)
    return unhashed._replace(link=Link(position, hash_of(unhashed)))


def chain_of(length: int) -> list[ChainedEvent]:
    last, chain = BEGINNING, []
    for number in range(length):
        chain.append(appended(last, event(f"key_{number}", NOW + timedelta(seconds=number))))
        last = chain[-1].link
    return chain


def problems(events: Sequence[ChainedEvent], head: Link, dropped: Link = BEGINNING) -> list[tuple[int, str]]:
    """Return the results of a check: the positions and the first words of the problems."""
    chain = Chain("acme", head, dropped, date(2026, 8, 1))
    faults = [fault for chained in events for fault in chain.add(chained)]
    return [(fault.position, fault.problem.split(":")[0]) for fault in (*faults, *chain.end())]


CHAIN = chain_of(6)
HEAD = CHAIN[-1].link


def test_the_hash_is_as_documented() -> None:
    """Netstrings of the fields, in the documented order, then of the details by name."""
    new = replace(event(reason="leaked"), event_id="evt_1", details={"b": "ü", "a": "1"})
    fields = [
        "authsvc audit 1", "00" * 32, "acme", "1", "evt_1", "1795262400000000", "KEY_CREATED", "key_1",
        "acme", "key", "key_2", "192.0.2.1", "req-1", "a", "1", "b", "ü",
    ]  # fmt: skip
    text = "".join(f"{len(field.encode())}:{field}," for field in fields)
    assert appended(BEGINNING, new).link == Link(1, sha256(text.encode()).digest())


def test_a_whole_chain_has_no_faults() -> None:
    """Also an empty one, and one that has become longer meanwhile."""
    assert problems(CHAIN, HEAD) == []
    assert problems([], BEGINNING) == []
    assert problems(CHAIN, CHAIN[2].link) == []


@pytest.mark.parametrize(
    "change",
    [
        {"event_id": "evt_x"},
        {"event_time": NOW - timedelta(microseconds=1)},
        {"action": "KEY_DELETED"},
        {"actor_id": "key_x"},
        {"actor_owner_id": "x"},
        {"actor_type": ""},
        {"owner_id": "x"},
        {"target_id": "x"},
        {"client_ip": "192.0.2.2"},
        {"request_id": "x"},
        {"details": {"a": ""}},
    ],
)
def test_an_altered_event_shows(change: dict[str, object]) -> None:
    """In any field."""
    altered = CHAIN[2]._replace(event=replace(CHAIN[2].event, **change))  # type: ignore[arg-type]
    assert problems([*CHAIN[:2], altered, *CHAIN[3:]], HEAD) == [(3, "was altered")]


def test_every_field_is_hashed() -> None:
    """A field that is added to the event and not to the hash fails this test."""
    changes = test_an_altered_event_shows.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {name for change in changes for name in change} == set(AuditEvent.__dataclass_fields__)


def test_moving_text_between_fields_shows() -> None:
    """No two events have one encoding."""
    one, other = event(ab="c"), event(a="bc")
    same = replace(other, event_id=one.event_id)
    assert hash_of(appended(BEGINNING, one)) != hash_of(appended(BEGINNING, same))


def test_altered_and_hashed_again_shows_at_the_next() -> None:
    """An attacker that knows the format still breaks the link."""
    forged = appended(CHAIN[1].link, event("key_forged"))
    assert problems([*CHAIN[:2], forged, *CHAIN[3:]], HEAD) == [
        (4, "does not follow the event before it, which has another hash")
    ]
    forged = appended(CHAIN[4].link, event("key_forged"))
    assert problems([*CHAIN[:5], forged], HEAD) == [
        (6, "the last event does not match the head of the chain")
    ]


def test_removed_events_show() -> None:
    """The first, one in the middle, several, the newest, all."""
    assert problems(CHAIN[1:], HEAD) == [(1, "event 1 is missing")]
    assert problems(CHAIN[:2] + CHAIN[3:], HEAD) == [(3, "event 3 is missing")]
    assert problems(CHAIN[:2] + CHAIN[4:], HEAD) == [(3, "events 3 to 4 are missing")]
    assert problems(CHAIN[:-1], HEAD) == [(6, "event 6 is missing")]
    assert problems([], HEAD) == [(1, "events 1 to 6 are missing")]


def test_an_inserted_event_shows() -> None:
    """A copy, and one created for that position."""
    assert problems([*CHAIN[:3], CHAIN[2], *CHAIN[3:]], HEAD) == [(3, "was inserted or moved")]
    forged = appended(CHAIN[1].link, event("key_forged"))
    assert problems([*CHAIN[:3], forged, *CHAIN[3:]], HEAD) == [(3, "was inserted or moved")]


def test_swapped_events_show() -> None:
    """In place with their positions, and with their positions exchanged."""
    moved = [CHAIN[0], CHAIN[2], CHAIN[1], *CHAIN[3:]]
    assert problems(moved, HEAD) == [(2, "event 2 is missing"), (2, "was inserted or moved")]
    one, other = (
        CHAIN[1]._replace(event=CHAIN[2].event),
        CHAIN[2]._replace(event=CHAIN[1].event),
    )
    assert problems([CHAIN[0], one, other, *CHAIN[3:]], HEAD) == [(2, "was altered"), (3, "was altered")]


def test_a_chain_goes_on_after_what_was_dropped() -> None:
    """From the recorded link, and from no other."""
    dropped = CHAIN[2].link
    assert problems(CHAIN[3:], HEAD, dropped) == []
    assert problems([], HEAD, HEAD) == []
    assert problems(CHAIN[2:], HEAD, dropped) == [(3, "was inserted or moved")]
    assert problems(CHAIN[4:], HEAD, dropped) == [(4, "event 4 is missing")]
    forged = Link(3, bytes(32))
    assert problems(CHAIN[3:], HEAD, forged) == [
        (4, "does not follow the event before it, which has another hash")
    ]


@pytest.mark.parametrize("position", [1, 3, 6])
def test_an_anchor_knows_better(position: int) -> None:
    """A chain that was rewritten from some event on is intact, and is not the one in the anchor."""
    anchor = CHAIN[position - 1].link
    last, forged = BEGINNING, []
    for chained in CHAIN:
        forged.append(appended(last, replace(chained.event, actor_id="somebody else")))
        last = forged[-1].link
    assert problems(forged, last) == []
    for events, found in ((CHAIN, []), (forged, ["the anchor has another hash"])):
        chain = Chain("acme", events[-1].link)
        chain.anchor = Anchor("acme", anchor)
        faults = [fault for chained in events for fault in chain.add(chained)]
        assert [fault.problem.split(":")[0] for fault in (*faults, *chain.end())] == found


def test_an_anchor_beyond_the_head() -> None:
    """The newest were removed and the head was set back: the chain is intact, and shorter than it was."""
    chain = Chain("acme", CHAIN[3].link)
    chain.anchor = Anchor("acme", HEAD)
    assert [fault for chained in CHAIN[:4] for fault in chain.add(chained)] == []
    assert [fault.problem for fault in chain.end()] == ["the anchor is at 6, beyond the head of the chain"]


def test_no_key_string_gets_into_an_event() -> None:  # rule 1
    """In any text, it is cut down to its prefix; long texts are truncated, NUL is replaced."""
    text = KeyMint(bytes(32)).mint("eg", "live").text
    caller = Caller(text, text, (), None, text, f"see {text}!")
    made = AuditEvent.of(
        caller,
        Action.REFUSED,
        at=NOW,
        target_id=text,
        owner_id="acme",
        details={"reason": f"x{text}", "none": ""},
    )
    assert text[-51:-8] not in repr(made)
    assert made.actor_id == text[:-51] + "…"
    assert made.details.keys() == {"reason"}
    assert event(reason="a\0b" + 1000 * "c").details["reason"] == "a\ufffdb" + 509 * "c"
    assert event(reason="\ud800").details["reason"] == "?"
