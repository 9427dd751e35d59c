"""GetKeyUsage, PreviewRevocation, GetRotationStatus and PreviewAllowedNetworks, which change nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple, Protocol

from authsvc.keys.read import KeyReads
from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.errors import RetryableError
from authsvc.model.key import Key
from authsvc.model.key_usage import (
    UsageGroup,
    UsageQuery,
    UsageRow,
    etag_day,
    preview_etag,
    preview_outdated,
    since_day,
    utc_day,
)
from authsvc.model.network_preview import NetworkPreview, preview_networks
from authsvc.model.page import Page
from authsvc.model.rotation import GraceEnd, not_rotated
from authsvc.store import grace_ends as grace_store
from authsvc.store import key_usage as usage_store
from authsvc.store import keys as key_store
from authsvc.store.pool import Connection, Database

#: How many rows of users a preview has, how many networks, and up to what created keys are counted.
MAX_USERS, MAX_NETWORKS, MAX_COUNTED = 100, 1000, 1000
# Found by indexes on the creator; but a key may have created very many that have ended.
_COUNT_MILLISECONDS = 1000
_KEY_ID = "key_"

#: The display names of verifying keys, by id.
Names = Mapping[str, str]


class Users(NamedTuple):
    """Who has used a key, the latest first, and whether there are more."""

    rows: Sequence[UsageRow]
    names: Names
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPreview:
    """Who would be cut off by a revocation. `made` are the working keys and sessions that the key created."""

    key: Key
    users: Users
    successor: Key | None
    made: tuple[int, int] | None
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationStatus:
    """How far a rotation is. `users` are those of the old key since then."""

    old: Key | None
    new: Key | None
    rotate_time: datetime | None
    end: GraceEnd | None
    earliest_end: datetime | None
    users: Users


class KeyUsageReads(KeyReads, Protocol):
    """Shows how keys are used."""

    _database: Database
    _grace_margin: timedelta

    async def usage(
        self, caller: Caller, query: UsageQuery, *, page_size: int, page_token: str
    ) -> tuple[Page[UsageRow], Names, int]:
        """Return a page of the uses of a key, the names of verifiers, and how many uses there are in all.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner (rule 19).
            InvalidArgument: INVALID_FIELD, if `page_token` was issued for another query or is too old.
        """
        await self.get(caller, query.key_id)
        after = _row_of(query, self._page_tokens.open(query, page_token)) if page_token else None
        async with self._database.listing(caller.quota_owner) as connection:
            total = await usage_store.total(connection, query)
            rows, more = await usage_store.page(connection, query, size=page_size, after=after)
            names = await _names(connection, caller, rows)

        def seal(last: UsageRow) -> str:
            value = last.day.isoformat() if last.day else None
            return self._page_tokens.seal(query, (value, "\0".join(last[1:4])))

        return Page(rows, more, seal), names, total

    async def preview_revocation(self, caller: Caller, key_id: str, days: int) -> RevocationPreview:
        """Return who has used a key in the last days, and what is known of its successor.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner (rule 19).
        """
        key = await self.get(caller, key_id)
        since = since_day(self._clock(), days)
        async with self._database.listing(caller.quota_owner) as connection:
            # First: who is shown below, and is not among these, makes the etag outdated.
            places = await usage_store.places(connection, key_id, since=since)
            users = await _users(connection, caller, key_id, since, key.create_time)
            found = await key_store.find(connection, [key.rotated_to_key_id])
        return RevocationPreview(
            key=key,
            users=users,
            successor=found.get(key.rotated_to_key_id),
            made=await self._count_made(caller, key),
            etag=preview_etag(key, since, places),
        )

    async def _count_made(self, caller: Caller, key: Key) -> tuple[int, int] | None:
        """Return how many keys and sessions a key has created; None if that takes too long."""
        owner_id = None if key.owner_id == PLATFORM_OWNER else key.owner_id
        with suppress(RetryableError):
            async with self._database.listing(caller.quota_owner, in_transaction=True) as connection:
                await connection.execute(f"SET LOCAL statement_timeout = {_COUNT_MILLISECONDS}")
                return await usage_store.count_made(
                    connection, key.key_id, owner_id, self._clock(), most=MAX_COUNTED
                )
        return None

    async def rotation_status(self, caller: Caller, key_id: str) -> RotationStatus:
        """Return how far the rotation of a key, or the one that made it, is.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner (rule 19).
            FailedPrecondition: KEY_NOT_ROTATED.
        """
        key, now = await self.get(caller, key_id), self._clock()
        old_id = key.key_id if key.rotated_to_key_id else key.rotated_from_key_id
        if not old_id:
            raise not_rotated(key_id)
        new_id = key.rotated_to_key_id or key.key_id
        async with self._database.listing(caller.quota_owner) as connection:
            keys = await key_store.find(connection, [old_id, new_id], owner_id=key.owner_id)
            old, new = keys.get(old_id), keys.get(new_id)
            end = await grace_store.find(connection, old_id)
            rotate_time = new.create_time if new else end.rotate_time if end else None
            since = rotate_time or (old.create_time if old else now)
            users = await _users(connection, caller, old_id, utc_day(since), since)
        earliest = None if end is None or old is None else end.earliest(old, new, now, self._grace_margin)
        return RotationStatus(
            old=old, new=new, rotate_time=rotate_time, end=end, earliest_end=earliest, users=users
        )

    async def preview_networks(
        self, caller: Caller, networks: Sequence[str], *, key_id: str, owner_id: str, days: int
    ) -> NetworkPreview:
        """Return which networks a key, or those of an owner, were used from that others would refuse.

        Raises:
            NotFound: KEY_NOT_FOUND, if the key is unknown or of another owner (rule 19).
            PermissionDenied: OWNER_NOT_PERMITTED.
        """
        if key_id:
            await self.get(caller, key_id)
        else:
            caller.refuse_other_owner(owner_id)
        since, most = since_day(self._clock(), days), MAX_NETWORKS + 1
        async with self._database.listing(caller.quota_owner) as connection:
            found = (
                await usage_store.networks_of_key(connection, key_id, since=since, most=most)
                if key_id
                else await usage_store.networks_of_owner(connection, owner_id, since=since, most=most)
            )
        return preview_networks(networks, found, most=MAX_NETWORKS)


async def refuse_outdated(connection: Connection, key: Key, etag: str) -> None:
    """Raise Conflict (ETAG_MISMATCH) if the preview with this etag is not true any more.

    The key is locked.
    """
    since = etag_day(etag)
    if since is not None:
        places = await usage_store.places(connection, key.key_id, since=since)
        if preview_etag(key, since, places) == etag:
            return
    raise preview_outdated(key.key_id)


async def _users(
    connection: Connection, caller: Caller, key_id: str, since: date, used_after: datetime
) -> Users:
    rows = await usage_store.users(connection, key_id, since=since, used_after=used_after, most=MAX_USERS + 1)
    names = await _names(connection, caller, rows[:MAX_USERS])
    return Users(rows[:MAX_USERS], names, len(rows) > MAX_USERS)


async def _names(connection: Connection, caller: Caller, rows: Sequence[UsageRow]) -> Names:
    """Return the names of the verifying keys that the caller may see."""
    ids = {row.verifier_id for row in rows if row.verifier_id.startswith(_KEY_ID)}
    found = await key_store.find(connection, sorted(ids), owner_id=caller.confined_to) if ids else {}
    return {key_id: key.display_name for key_id, key in found.items()}


def _row_of(query: UsageQuery, position: tuple[str | datetime | None, str]) -> UsageRow:
    """Return the row that a page token stands for; only what the order of the list needs."""
    day, rest = position
    verifier_id, network, program = rest.split("\0")
    has_day = UsageGroup.DAY in query.groups and isinstance(day, str)
    found = date.fromisoformat(day) if has_day and isinstance(day, str) else None
    return UsageRow(found, verifier_id, network, program, 0, datetime.min)
