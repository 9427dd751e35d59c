"""Opening sessions: those of a moment share one transaction, and so its locks and its commit.

Mechanism: the transaction holds the authority of all who open one, and shares the sessions of all owners that
get one, so whoever ends all sessions of an owner waits for it. Each is refused for itself. It does not wait
for authority that others hold: whoever needs that is left out, and opens a session in a transaction
of its own, so that nobody waits for the locks of another owner.

Bound: so many sessions a transaction, so many transactions, and so many waiting. The transaction waits 0.2 s
for the end of an audit chain. Transactions of their own take slots of the owner of the session.

Failure: what the database says, all are told who share the transaction; if it waited too long for a lock,
each opens a session in a transaction of its own. Whoever loses its authority in the middle of it, by the
clock, has it rolled back; then each is opened alone.
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
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Connection, Database, LockWait
from authsvc.store.shared_statement import SharedStatement

_MAX_OPENING = 1000


@dataclass(frozen=True, slots=True)
class Opening:
    """A session that a caller wants to open, and the event that records it."""

    caller: Caller
    session: Session
    event: AuditEvent
    secret_hash: str = field(repr=False)


class _Outcome(Enum):
    """What became of an opening that was not refused."""

    OPENED = "opened"
    LEFT_OUT = "left out"  # It would have had the others wait.


class _AuthorityLost(Exception):
    """A caller lost its authority after its session had been inserted."""


class SessionOpenings:
    """Inserts sessions for callers that may open them at the commit (R9)."""

    def __init__(
        self, database: Database, authority: Authority, policies: PolicyStore, catalogue: Catalogue
    ) -> None:
        self._database = database
        self._authority = authority
        self._policies = policies
        self._catalogue = catalogue
        self._sharing = SharedStatement(
            self._open_together,
            max_waiting=_MAX_OPENING,
            full="too many sessions are being opened",
            # While the database works on one, the next is made ready.
            max_sharing=16,
            at_once=2,
        )

    async def open(self, opening: Opening) -> None:
        """Insert a session and its event; raise, with nothing done, when the caller may not open it."""
        outcome = await self._sharing.ask(opening)
        if outcome is _Outcome.LEFT_OUT:
            async with self._database.transaction(opening.session.owner_id) as connection:
                [outcome] = await self._open_all(connection, [opening])
        if isinstance(outcome, AuthsvcError):
            raise outcome

    async def _open_together(self, openings: Sequence[Opening]) -> list[AuthsvcError | _Outcome]:
        """Return what became of each."""
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
        """Return for each why it was refused, or that it is opened when the transaction is committed."""
        owner_ids = {opening.session.owner_id for opening in openings}
        claim = Claim(relies_on=owner_ids, opens_sessions_of=owner_ids)
        outcomes: list[AuthsvcError | _Outcome] = []
        authorized: list[Authorized] = []
        opened: list[session_store.Opened] = []
        held = await self._authority.hold(connection, [opening.caller for opening in openings], claim)
        refuse_manager = await self._managers(connection, openings)
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

    async def _managers(
        self, connection: Connection, openings: Sequence[Opening]
    ) -> Callable[[Opening], None]:
        """Return what refuses a session that could manage keys to a caller who may not."""
        managing = {
            opening.session.owner_id
            for opening in openings
            if opening.caller.confined_to is not None and _manages_keys(opening.session)
        }
        policies = await self._policies.find_all(connection, managing) if managing else {}

        def refuse(opening: Opening) -> None:
            # Or who may not manage keys would do so by a session of its own making.
            if _manages_keys(opening.session) and opening.session.owner_id in policies:
                policies[opening.session.owner_id].refuse_manager(opening.caller)

        return refuse


def _manages_keys(session: Session) -> bool:
    return not missing(session.scopes, [MANAGES_KEYS])
