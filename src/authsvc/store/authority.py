"""The locks that a change takes first, and the credentials of its callers under these locks."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import asyncpg

from authsvc.model.caller import Caller
from authsvc.model.credential import ALWAYS, Credential, CredentialKind
from authsvc.model.policy import OwnerPolicy
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries
from authsvc.store.restriction import allowed_networks, disabled_until

_SQL = load_queries("authority.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a transaction will change or rely on, besides the authority of its callers."""

    # The ids of keys and sessions that are changed.
    changes: Collection[str] = ()
    # The owner whose policy, or whose keys as a whole, are changed.
    changes_owner: str | None = None
    # The owner all of whose sessions are ended.
    ends_sessions_of: str | None = None
    # Owners whose policy is relied on, besides those of the callers and of the changed keys.
    relies_on: Collection[str] = ()
    # Owners that get new sessions.
    opens_sessions_of: Collection[str] = ()
    # A revocation, which may use a reserved slot of the database.
    revokes: bool = False


async def hold(
    connection: Connection, callers: Collection[Caller], claim: Claim, default_policy: OwnerPolicy
) -> Mapping[str, Credential]:
    """Lock what the authority of callers rests on, and what is claimed, until the transaction ends (R9).

    Returns the credentials of the callers by id; nobody can change them before the transaction ends. A
    deleted credential is missing, and so are callers without one. Raises ValueError when callers of several
    owners claim `changes`.
    """
    confined = {caller.confined_to for caller in callers} if claim.changes else {None}
    if len(confined) > 1:
        raise ValueError("changes are claimed by callers of several owners")
    rows = await connection.fetch(
        _SQL["hold_authority"],
        _credential_ids(callers),
        [*(caller.owner_id for caller in callers), *claim.relies_on],
        claim.changes_owner,
        _session_owners(callers, claim.opens_sessions_of),
        claim.ends_sessions_of,
        list(claim.changes),
        confined.pop(),
    )
    return {row["credential_id"]: _credential(row, default_policy) for row in rows}


def judged(caller: Caller) -> dict[str, object]:
    """Return what a caller with a credential was judged by, for a statement that compares it under locks."""
    return {
        "caller_id": caller.credential_id,
        "caller_owner_id": caller.owner_id,
        "is_session": caller.kind is CredentialKind.SESSION,
        "scopes": caller.scopes,
    }


@dataclass(frozen=True, slots=True)
class SharedLocks:
    """The shared locks that a transaction has until it ends."""

    owners: frozenset[str]
    session_owners: frozenset[str]
    credentials: frozenset[str]

    def let_open(self, caller: Caller, owner_id: str) -> bool:
        """Return whether `hold` does not have to wait when this caller opens a session of this owner."""
        return (
            self.owners.issuperset([caller.owner_id, owner_id])
            and self.session_owners.issuperset(_session_owners([caller], [owner_id]))
            and self.credentials.issuperset(_credential_ids([caller]))
        )


async def share_at_once(
    connection: Connection, callers: Collection[Caller], owner_ids: Collection[str]
) -> SharedLocks:
    """Take the shared locks for opening sessions of these owners, except those that would have to wait."""
    row = await connection.fetchrow(
        _SQL["share_at_once"],
        list({*(caller.owner_id for caller in callers), *owner_ids}),
        list(set(_session_owners(callers, owner_ids))),
        list(set(_credential_ids(callers))),
    )
    if row is None:
        raise AssertionError("a query of arrays returns one row")
    return SharedLocks(*map(frozenset, row))


def _session_owners(callers: Collection[Caller], opens_of: Collection[str]) -> list[str]:
    """Return the owners whose sessions have to be locked for callers that open sessions of these owners."""
    return [*(caller.owner_id for caller in callers if caller.kind is CredentialKind.SESSION), *opens_of]


def _credential_ids(callers: Collection[Caller]) -> list[str]:
    return [caller.credential_id for caller in callers if caller.kind is not None]


def _credential(row: asyncpg.Record, default_policy: OwnerPolicy) -> Credential:
    """Return a credential without its activity, which this call itself is."""
    return Credential(
        kind=CredentialKind(row["kind"]),
        credential_id=row["credential_id"],
        owner_id=row["owner_id"],
        scopes=tuple(row["scopes"]),
        expire_time=ALWAYS if row["is_over"] else row["expire_time"],
        revoke_time=ALWAYS if row["revoked_at_once"] else row["revoke_time"],
        annotations={},
        disabled_until=disabled_until(row, default_policy),
        networks=allowed_networks(row),
    )
