"""Anchors: writing and reading, and which drops they allow."""

from datetime import UTC, date, datetime, timedelta

import pytest

from authsvc.model.audit_anchor import Anchor, MonthEnd, header, read_anchors
from authsvc.model.audit_event import Link

TIME = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
END = Link(60, bytes(range(32)))
MONTHS = (MonthEnd(date(2026, 9, 1), 31), MonthEnd(date(2026, 10, 1), 48), MonthEnd(date(2026, 11, 1), 60))
ANCHOR = Anchor("acme", END, TIME, 12, MONTHS)
HASH = bytes(32).hex()


def test_a_file_is_read_as_it_was_written() -> None:
    """For any owner names: a line break or a control character in a name does not break a line."""
    anchors = [
        ANCHOR,
        Anchor("be\nb 1 00\x1b[2J", END, TIME, 60),
        Anchor("org:1@x-y_z.", END, TIME),
        Anchor("\u202e%41 ü", END, TIME),
    ]
    anchors.sort(key=lambda anchor: anchor.owner_id)
    lines = "\n".join([header(TIME), *map(str, anchors)]).splitlines()
    assert len(lines) == 5
    assert list(read_anchors(lines)) == anchors
    assert "org:1@x-y_z. 60 " in "\n".join(lines)
    assert lines[1] == f"acme 60 {END.hash.hex()} 12 202609:31,202610:48,202611:60"


def test_files_of_before_are_read() -> None:
    """They have no first line, and contain only the ends of chains."""
    lines = [f"acme 7 {HASH}\n", f"authsvc 1 {HASH}\n"]
    assert list(read_anchors(lines)) == [
        Anchor("acme", Link(7, bytes(32))),
        Anchor("authsvc", Link(1, bytes(32))),
    ]
    assert list(read_anchors(lines[1:])) == [Anchor("authsvc", Link(1, bytes(32)))]
    assert Anchor("acme", END).refusal(60, datetime(2026, 1, 1, tzinfo=UTC), tolerance=timedelta(0)) == ""


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        (["acme 7"], 1),
        ([f"acme x {HASH}"], 1),
        (["acme 7 00"], 1),
        ([f"acme 7 {HASH} 0 -"], 1),
        ([f"%ff 7 {HASH}"], 1),
        (["authsvc anchors 2 yesterday"], 1),
        (["authsvc anchors 2 2026-11-21T03:00:00"], 1),
        ([header(TIME), f"acme 7 {HASH}"], 2),
        ([header(TIME), f"acme 7 {HASH} 0 202613:7"], 2),
        ([header(TIME), f"acme 7 {HASH} 0 x"], 2),
        ([header(TIME), str(ANCHOR), header(TIME)], 3),
        ([f"b 1 {HASH}", f"a 1 {HASH}"], 2),
        ([f"a 1 {HASH}", f"a 1 {HASH}"], 2),
    ],
)
def test_what_is_none_is_refused(lines: list[str], number: int) -> None:
    """The error has the line."""
    with pytest.raises(ValueError, match=f"^line {number}: "):
        list(read_anchors(lines))


@pytest.mark.parametrize(
    ("dropped", "month", "is_refused"),
    [
        (12, (2026, 10), False),  # what had been dropped at that time
        (11, (2026, 10), True),  # less
        (31, (2026, 10), False),  # one month
        (48, (2026, 11), False),  # two
        (30, (2026, 10), True),  # part of a month
        (32, (2026, 10), True),
        (48, (2026, 10), True),  # a later month
        (59, (2026, 11), True),
        (60, (2026, 11), True),  # all, if the last month is later
        (61, (2026, 11), True),  # and more than the anchor has
        (60, (2026, 12), False),  # all, if all are older
        (59, (2026, 12), True),
        (75, (2026, 12), False),  # and later events in the anchor's month
    ],
)
def test_a_drop_ends_where_a_month_does(dropped: int, month: tuple[int, int], is_refused: bool) -> None:
    """The anchor's months end where it says, and no event after the anchor is older than it."""
    begin = datetime(*month, 1, tzinfo=UTC)
    assert bool(ANCHOR.refusal(dropped, begin, tolerance=timedelta(days=2))) is is_refused


def test_what_came_after_an_anchor_is_not_older() -> None:
    """Except for the days by which an event may be late."""
    anchor = Anchor("acme", Link(31, bytes(32)), TIME, 12, MONTHS[:1])
    november = datetime(2026, 11, 1, tzinfo=UTC)
    assert anchor.refusal(32, november, tolerance=timedelta(days=20)) == (
        "according to the anchor, the events before 2026-11-01 end at 31"
    )
    assert anchor.refusal(32, november, tolerance=timedelta(days=21)) == ""
    assert anchor.refusal(31, november, tolerance=timedelta(0)) == ""
