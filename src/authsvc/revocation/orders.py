"""What a follower orders those who answer from memory to do, one order after another."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, TypeAlias

from authsvc.model.feed import FeedEntry, Place
from authsvc.model.tag_key import AcceptedTagKeys


class Start(NamedTuple):
    """Forget everything, and go on from a place in the feed."""

    place: Place
    tag_keys: AcceptedTagKeys | None


class Apply(NamedTuple):
    """Forget what these entries name. They follow the place, and `place` is the one after them."""

    entries: Sequence[FeedEntry]
    place: Place


class Forget(NamedTuple):
    """Forget what an entry names that a hint announced. Whether the feed has it is not known yet."""

    entry: FeedEntry


class Advance(NamedTuple):
    """This is the place, for certain: what a `Forget` said is true up to here, and was not true beyond."""

    place: Place


class Grant(NamedTuple):
    """Hold the lease until this instant. The time of the database was `now` between the other two instants.

    Instants are seconds on the stopwatch of this machine.
    """

    until: float
    now: datetime
    asked: float
    answered: float


class Drop(NamedTuple):
    """Give up the lease, and forget everything: the place in the feed is lost."""

    reason: str


class Reconnect(NamedTuple):
    """The connection to the database was lost, or led to another node; others may be affected, too."""


Order: TypeAlias = Start | Apply | Forget | Advance | Grant | Drop | Reconnect
