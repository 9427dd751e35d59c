"""Tag keys."""

from uuid import UUID

from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys

ACCEPTED = AcceptedTagKeys((b"minting", b"older"))


def test_the_first_one_mints() -> None:
    """The others are only accepted."""
    assert ACCEPTED.minting == b"minting"


def test_they_do_not_show() -> None:  # rule 1
    """Printing an entry of the feed never prints a tag key."""
    shown = f"{ACCEPTED!r} {ACCEPTED} {FeedEntry(Place(1, UUID(int=1)), (), None, None, ACCEPTED)!r}"
    assert "minting" not in shown
    assert "older" not in shown
