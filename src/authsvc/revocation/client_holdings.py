"""The credentials that a client holds: what it was sent, and has neither released nor been told to forget.

Those that it held a moment ago are known, too: it reports the last uses of them.
"""

from collections.abc import Iterable
from typing import NamedTuple

from authsvc.model.credential import Credential, CredentialKind
from authsvc.model.feed import FeedEntry

# As many as it can report at once, ten times.
_MAX_FORMER = 10_000


class HeldKey(NamedTuple):
    """A credential that a client holds, without what it may do."""

    key_prefix: str
    credential_id: str
    owner_id: str
    kind: CredentialKind


class Concerned(NamedTuple):
    """What an entry of the feed says of the credentials that a client holds."""

    key_prefixes: list[str]
    # All of this owner, or those of one kind; "" for none.
    owner_id: str
    kind: CredentialKind | None


class ClientHoldings:
    """By prefix, by id, and by owner."""

    def __init__(self) -> None:
        self._held: dict[str, HeldKey] = {}
        self._of_owner: dict[str, set[str]] = {}
        # Those that it holds, and those that it held before its last reports of uses.
        self._by_id: dict[str, HeldKey] = {}
        self._former: dict[str, HeldKey] = {}
        self._before: dict[str, HeldKey] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, prefix: str) -> bool:
        return prefix in self._held

    def add(self, prefix: str, credential: Credential) -> None:
        """Note that it is sent a credential."""
        self._drop(prefix)
        held = HeldKey(prefix, credential.credential_id, credential.owner_id, credential.kind)
        self._held[prefix] = self._by_id[held.credential_id] = held
        self._of_owner.setdefault(held.owner_id, set()).add(prefix)

    def release(self, prefixes: Iterable[str]) -> None:
        """Note that it does not hold some credentials any more."""
        for prefix in prefixes:
            self._drop(prefix)

    def take(self, entry: FeedEntry) -> Concerned | None:
        """Note that it does not hold what an entry names, and return that; None if it held nothing of it."""
        named = [prefix for prefix in entry.key_prefixes if prefix in self._held]
        owned = self._owned(entry.owner_id, entry.kind) if entry.owner_id is not None else []
        if not named and not owned:
            return None
        self.release([*named, *owned])
        return Concerned(named, entry.owner_id or "", entry.kind) if owned else Concerned(named, "", None)

    def clear(self) -> None:
        """Note that it holds nothing any more."""
        self.release(list(self._held))

    def find(self, credential_id: str) -> HeldKey | None:
        """Return a credential that it holds, or held when it reported uses last; None for any other."""
        for known in (self._by_id, self._former, self._before):
            if (held := known.get(credential_id)) is not None:
                return held
        return None

    def note_report(self) -> None:
        """Note that it has reported all uses of what it held before its previous report."""
        self._before, self._former = self._former, {}

    def _owned(self, owner_id: str, kind: CredentialKind | None) -> list[str]:
        prefixes = self._of_owner.get(owner_id, ())
        return [prefix for prefix in prefixes if kind is None or self._held[prefix].kind is kind]

    def _drop(self, prefix: str) -> None:
        if (held := self._held.pop(prefix, None)) is not None:
            self._by_id.pop(held.credential_id, None)
            self._former[held.credential_id] = held
            if len(self._former) > _MAX_FORMER:
                del self._former[next(iter(self._former))]
            prefixes = self._of_owner[held.owner_id]
            prefixes.discard(prefix)
            if not prefixes:
                del self._of_owner[held.owner_id]
