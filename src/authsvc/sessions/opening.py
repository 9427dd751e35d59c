"""Inserts sessions: those that are created at the same time share a transaction, its locks and its commit.

Mechanism: the shared transaction locks the authority of all callers, and the sessions of all owners that get
one. So a change that revokes all sessions of an owner waits for it. Each session is checked and refused
separately. The shared transaction does not wait for authority that other transactions have locked. It leaves
such sessions out, and each of them is inserted in a transaction of its own. So no caller waits for the locks
of another owner.

Bound: 16 sessions in a transaction, two shared transactions at a time, and `_MAX_WAITING_OPENINGS` that
wait. A shared transaction waits 0.2 s for the head of an audit chain. A transaction for one session takes a
slot of the owner of the session.

Failure: an error of the database is raised for all sessions of the transaction. After a time-out of a lock,
each is inserted in a transaction of its own. If a caller loses its authority before the commit, the
transaction is rolled back, and each session is inserted alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from authsvc.model import platform
from authsvc.model.audit_event import AuditEvent
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.errors import AuthsvcError, Unavailable
from authsvc.model.scope import MANAGES_KEYS, missing
from authsvc.model.session import Session
from authsvc.revocation.authority import Authority, Authorized, Claim
from authsvc.store import sessions as session_store
from authsvc.store.authority import share_at_once
from authsvc.store.driver_errors import LOCK_TIMEOUT
from authsvc.store.lock_wait import LockWait
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Connection, Database
from authsvc.store.shared_statement import SharedStatement

_MAX_WAITING_OPENINGS = 1000
_MAX_SHARING_OPENINGS, _MAX_SHARED_TRANSACTIONS = 16, 2


@dataclass(frozen=True, slots=True)
class Opening:
    """A session that a caller wants to create, the audit event for it, and the hash of its secret."""

    caller: Caller
    session: Session
    event: AuditEvent
    secret_hash: str = field(repr=False)


class _Outcome(Enum):
    """The outcome for a session that was not refused."""

    OPENED = "opened"
    LEFT_OUT = "left out"  # The other sessions would have had to wait.


class _AuthorityLost(Exception):
    """A caller lost its authority after its session was inserted."""


class SessionOpenings:
    """Inserts sessions for callers that still have the authority to do so at the commit (R9)."""

    def __init__(
        self, database: Database, authority: Authority, policies: PolicyStore, catalogue: Catalogue
    ) -> None:
        self._database = database
        self._authority = authority
        self._policies = policies
        self._catalogue = catalogue
        self._sharing = SharedStatement(
            self._open_together,
            max_waiting=_MAX_WAITING_OPENINGS,
            full="too many sessions are being created",
            max_sharing=_MAX_SHARING_OPENINGS,
            # While the database executes one, the next is prepared.
            at_once=_MAX_SHARED_TRANSACTIONS,
        )

    async def open(self, opening: Opening) -> None:
        """Insert a session and its audit event.

        Raises PermissionDenied or Unauthenticated if the caller may not create it, Overloaded
        (DATABASE_QUEUE_FULL) if too many are waiting, and Unavailable. Nothing is inserted then, except that
        Unavailable (COMMIT_UNCERTAIN) leaves that open.
        """
        outcome = await self._sharing.ask(opening)
        if outcome is _Outcome.LEFT_OUT:
            async with self._database.transaction(opening.session.owner_id) as connection:
                [outcome] = await self._open_all(connection, [opening])
        if isinstance(outcome, AuthsvcError):
            raise outcome

    async def _open_together(self, openings: Sequence[Opening]) -> list[AuthsvcError | _Outcome]:
        """Insert sessions in a shared transaction; return the outcome for each."""
        outcomes: list[AuthsvcError | _Outcome] = [_Outcome.LEFT_OUT] * len(openings)
        callers = [opening.caller for opening in openings]
        owner_ids = [opening.session.owner_id for opening in openings]
        try:
            async with self._database.transaction(lock_wait=LockWait.SHORT) as connection:
                shared = await share_at_once(connection, callers, owner_ids)
                let = [n for n, owner in enumerate(owner_ids) if shared.let_open(callers[n], owner)]
                opened = await self._open_all(connection, [openings[n] for n in let]) if let else []
        except Unavailable as error:
            if error.reason != LOCK_TIMEOUT:
                raise
        else:
            for n, outcome in zip(let, opened, strict=True):
                outcomes[n] = outcome
        return outcomes

    async def _open_all(
        self, connection: Connection, openings: Sequence[Opening]
    ) -> list[AuthsvcError | _Outcome]:
        """Insert sessions in this transaction; return for each its refusal, or OPENED."""
        owner_ids = {opening.session.owner_id for opening in openings}
        claim = Claim(relies_on=owner_ids, opens_sessions_of=owner_ids)
        outcomes: list[AuthsvcError | _Outcome] = []
        authorized: list[Authorized] = []
        opened: list[session_store.Opened] = []
        held = await self._authority.hold(connection, [opening.caller for opening in openings], claim)
        refuse_manager = await self._manager_check(connection, openings)
        for opening in openings:
            try:
                caller = held(opening.caller)
                platform.refuse_credential_of(caller.caller, opening.session.owner_id)
                self._catalogue.check_held(caller.caller, opening.session.scopes)
                refuse_manager(opening)
            except AuthsvcError as error:
                outcomes.append(error)
            else:
                outcomes.append(_Outcome.OPENED)
                authorized.append(caller)
                opened.append((opening.session, opening.secret_hash, opening.event))
        if opened:
            await session_store.insert(connection, opened)
        try:
            for caller in authorized:
                await caller.confirm()
            for caller in authorized:
                caller.refuse_if_gone()
        except AuthsvcError as error:
            if len(openings) == 1:
                raise
            raise _AuthorityLost from error
        return outcomes

    async def _manager_check(
        self, connection: Connection, openings: Sequence[Opening]
    ) -> Callable[[Opening], None]:
        """Return a check that refuses a session that could manage keys if its caller may not do so."""
        managing = {
            opening.session.owner_id
            for opening in openings
            if opening.caller.confined_to is not None and _manages_keys(opening.session)
        }
        policies = await self._policies.find_all(connection, managing) if managing else {}

        def refuse(opening: Opening) -> None:
            # Otherwise the caller could manage keys with a session that it has created for itself.
            if _manages_keys(opening.session) and opening.session.owner_id in policies:
                policies[opening.session.owner_id].refuse_manager(opening.caller)

        return refuse


def _manages_keys(session: Session) -> bool:
    return not missing(session.scopes, [MANAGES_KEYS])
