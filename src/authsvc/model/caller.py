"""Who calls our API, as far as a use case needs to know."""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from authsvc.model.scope import FULL_ACCESS, missing

# The reserved owner: its credentials act on every owner.
PLATFORM_OWNER = "authsvc"


class Caller(NamedTuple):
    """An authenticated caller. Acts within its own owner, or is the platform."""

    credential_id: str
    owner_id: str
    scopes: tuple[str, ...]
    # Until when they wait for the answer to a change, by the stopwatch.
    deadline: float = inf

    def acts_on(self, owner_id: str) -> bool:
        """Say whether this caller may see and change what belongs to `owner_id`."""
        return self.owner_id in (owner_id, PLATFORM_OWNER)

    def lacks(self, scopes: Iterable[str]) -> list[str]:
        """Return those of `scopes` that the caller does not have."""
        return missing(self.scopes, scopes)


# Who mints the first administrator key, before there is any credential.
BOOTSTRAP = Caller("bootstrap", PLATFORM_OWNER, (FULL_ACCESS,))
