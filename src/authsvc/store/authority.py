"""The locks that a change takes first, and its callers' credentials as they are from then on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import asyncpg

from authsvc.model.caller import Caller
from authsvc.model.credential import ALWAYS, Credential, CredentialKind
from authsvc.model.policy import OwnerPolicy
from authsvc.store.pool import Connection
from authsvc.store.queries import load_queries

_SQL = load_queries("authority.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a transaction is going to change or to rely on, besides the authority of its callers."""

    # Keys and sessions.
    changes: Collection[str] = ()
    # The owner whose policy or whose keys, all of them, are changed.
    changes_owner: str | None = None
    # The owner whose sessions are all ended.
    ends_sessions_of: str | None = None
    # Owners whose policy is relied on. Those of the callers and of changed keys are in any case.
    relies_on: Collection[str] = ()
    # Owners that get new sessions.
    opens_sessions_of: Collection[str] = ()
    # It takes something away, and may take a slot of the reserve at the database.
    revokes: bool = False


async def hold(
    connection: Connection, callers: Collection[Caller], claim: Claim, default_policy: OwnerPolicy
) -> Mapping[str, Credential]:
    """Lock what the authority of callers rests on and what is claimed, until the transaction ends (R9).

    Return the credentials of the callers, by id, as nobody changes them before that. A credential
    that is gone is missing, and so is a caller without one. Several callers can claim no `changes`.
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


@dataclass(frozen=True, slots=True)
class SharedLocks:
    """What a transaction shares until it ends, by what it is of."""

    owners: frozenset[str]
    session_owners: frozenset[str]
    credentials: frozenset[str]

    def let_open(self, caller: Caller, owner_id: str) -> bool:
        """Say whether `hold` waits for nothing when this caller opens a session of this owner."""
        return (
            self.owners.issuperset([caller.owner_id, owner_id])
            and self.session_owners.issuperset(_session_owners([caller], [owner_id]))
            and self.credentials.issuperset(_credential_ids([caller]))
        )


async def share_at_once(
    connection: Connection, callers: Collection[Caller], owner_ids: Collection[str]
) -> SharedLocks:
    """Share what callers need who open sessions of these owners, but for what would have to be waited for."""
    row = await connection.fetchrow(
        _SQL["share_at_once"],
        list({*(caller.owner_id for caller in callers), *owner_ids}),
        list(set(_session_owners(callers, owner_ids))),
        list(set(_credential_ids(callers))),
    )
    if row is None:
        raise AssertionError("arrays have a row")
    return SharedLocks(*map(frozenset, row))


def _session_owners(callers: Collection[Caller], opens_of: Collection[str]) -> list[str]:
    """Return the owners whose sessions are shared by callers who open some of these owners."""
    return [*(caller.owner_id for caller in callers if caller.kind is CredentialKind.SESSION), *opens_of]


def _credential_ids(callers: Collection[Caller]) -> list[str]:
    return [caller.credential_id for caller in callers if caller.kind is not None]


def _credential(row: asyncpg.Record, default_policy: OwnerPolicy) -> Credential:
    """Return a credential without activity: its own call is one, and takes less than an idle timeout."""
    kind = CredentialKind(row["kind"])
    enabled = default_policy.enables_keys(row["owner_id"], row["keys_enabled"])
    return Credential(
        kind=kind,
        credential_id=row["credential_id"],
        owner_id=row["owner_id"],
        scopes=tuple(row["scopes"]),
        expire_time=ALWAYS if row["is_over"] else row["expire_time"],
        revoke_time=ALWAYS if row["revoked_at_once"] else row["revoke_time"],
        annotations={},
        disabled=kind is CredentialKind.KEY and not enabled,
    )
