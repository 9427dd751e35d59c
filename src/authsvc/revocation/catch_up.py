"""How a holder that attaches comes to the place of its follower (R10)."""

from contextlib import suppress

from authsvc.model.errors import RetryableError
from authsvc.model.feed import Place
from authsvc.model.tag_key import AcceptedTagKeys
from authsvc.revocation.orders import Apply, Start
from authsvc.revocation.worker_feed import WorkerFeed

# A holder that has missed more entries starts with an empty memory.
_MAX_MISSED = 10_000


async def catch_up(
    store: WorkerFeed, known: Place | None, place: Place, tag_keys: AcceptedTagKeys | None
) -> Start | Apply:
    """Return what brings a holder with memory up to `known` to `place`.

    It starts anew if it has no memory or one of another history, if it is too far behind, or if the feed
    cannot be read now.
    """
    if known is not None and 0 <= place.seq - known.seq <= _MAX_MISSED:
        with suppress(RetryableError):
            entries = await store.read(known)
            missed = [entry for entry in entries or () if entry.place.seq <= place.seq]
            if entries is not None and (missed[-1].place if missed else known) == place:
                return Apply(missed, place)
    return Start(place, tag_keys)
