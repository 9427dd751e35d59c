"""The authority of callers: a revoked caller's change is committed before the revocation, or not at all.

Mechanism (R9 in docs/revocation.md): a transaction that changes something first locks what its caller's
authority rests on, shared; whatever takes authority away locks the same exclusively. Only then the
caller's credential is read, in a later snapshot, and judged as verification judges it. Last, before
the commit, its times are compared with the clock once more, since what was done meanwhile may have waited.
Callers by certificate are looked up in the file that names them, which is read once more.

Bound: one statement, and for callers by certificate one read of a file.

Failure: a caller that has lost its authority is refused, and nothing is written. A file that cannot be
read, or is not valid, counts as unchanged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Protocol

from authsvc.model.caller import ANONYMOUS, BOOTSTRAP, Caller
from authsvc.model.credential import Credential
from authsvc.model.errors import Unauthenticated
from authsvc.model.refusal import REFUSALS
from authsvc.model.verdict import VerdictCode, decide
from authsvc.store import authority as authority_store
from authsvc.store.authority import Claim
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Connection, Database, LockWait

__all__ = ["Authority", "Authorized", "CallerFile", "Claim"]

# Seconds for a file that is small; one that hangs must not keep the locks of a transaction.
_READ_WAIT = 1.0


class CallerFile(Protocol):
    """The callers that certificates stand for, by the name in the certificate."""

    @property
    def value(self) -> Mapping[str, Caller]:
        """Return those that were read last."""

    async def look(self) -> None:
        """Read the file again if it has changed."""


class Authorized:
    """A caller of a transaction, as it is while its locks are held."""

    def __init__(self, authority: "Authority", caller: Caller, credential: Credential | None) -> None:
        self._authority = authority
        self._credential = credential
        self._is_confirmed = False
        self._looks: list[Callable[[], None]] = []
        self.caller = caller

    async def confirm(self) -> None:
        """Read the file that names a caller by certificate once more; raise like `refuse_if_gone`."""
        if not self._is_confirmed:
            self._is_confirmed = True
            await self._authority.read_file(self.caller)
            self.refuse_if_gone()

    def look_last(self, look: Callable[[], None]) -> None:
        """Have `look` called before the commit; it raises when the change must not be made any more."""
        self._looks.append(look)

    def refuse_if_gone(self) -> None:
        """Raise if the caller has no authority for its call at this instant. Call it last before a commit."""
        self.caller = self._authority.judge(self.caller, self._credential)
        for look in self._looks:
            look()


class Authority:
    """Says what callers may do at the instant at which it is done."""

    def __init__(
        self,
        database: Database,
        policies: PolicyStore,
        clock: Callable[[], datetime],
        *,
        certified: CallerFile | None = None,
        anonymous: Caller | None = None,
    ) -> None:
        self._database = database
        self._policies = policies
        self._clock = clock
        self._certified = certified
        self._anonymous = anonymous

    @asynccontextmanager
    async def transaction(
        self, caller: Caller, claim: Claim | None = None
    ) -> AsyncIterator[tuple[Connection, Authorized]]:
        """Lend a transaction of a caller that has locked what it claims; commit it at the end (R9).

        Raises Unauthenticated or PermissionDenied, with nothing written, for a caller that has lost
        its authority when the locks are held, or at the end.
        """
        claim = claim or Claim()
        whole_owner = claim.changes_owner is not None or claim.ends_sessions_of is not None
        wait = LockWait.OWNER if whole_owner else LockWait.USUAL
        lent = self._database.transaction(caller.quota_owner, revokes=claim.revokes, lock_wait=wait)
        async with lent as connection:
            held = await self.hold(connection, [caller], claim)
            authorized = held(caller)
            yield connection, authorized
            await authorized.confirm()
            authorized.refuse_if_gone()

    async def hold(
        self, connection: Connection, callers: Collection[Caller], claim: Claim
    ) -> Callable[[Caller], Authorized]:
        """Lock what the authority of callers rests on and what is claimed, until the transaction ends.

        Return what says of each of them what it may do; that raises for one that has lost its authority.
        """
        credentials = await authority_store.hold(connection, callers, claim, self._policies.default)

        def authorized(caller: Caller) -> Authorized:
            credential = credentials.get(caller.credential_id) if caller.kind is not None else None
            return Authorized(self, self.judge(caller, credential), credential)

        return authorized

    def judge(self, caller: Caller, credential: Credential | None) -> Caller:
        """Return a caller with its scopes of now; raise if these, or its times, do not allow its call."""
        if caller.kind is None:
            return self._listed(caller)
        # None is gone before it was revoked.
        code = VerdictCode.REVOKED if credential is None else decide(credential, (), self._clock()).code
        if credential is None or code is not VerdictCode.VALID:
            reason, problem = REFUSALS[code]
            raise Unauthenticated(f"the credential in the authorization header {problem}", reason=reason)
        caller = caller._replace(scopes=credential.scopes)
        caller.refuse_without_scopes()
        return caller

    async def read_file(self, caller: Caller) -> None:
        """Read the file of callers once more if it is what names this one."""
        by_certificate = caller.kind is None and caller.credential_id not in (
            ANONYMOUS,
            BOOTSTRAP.credential_id,
        )
        if by_certificate and self._certified is not None:
            # What cannot be read now is what it was.
            with suppress(TimeoutError):
                async with asyncio.timeout(_READ_WAIT):
                    await self._certified.look()

    def _listed(self, caller: Caller) -> Caller:
        """Return a caller without a credential as the operator lists it now."""
        if caller.credential_id == BOOTSTRAP.credential_id:
            return caller
        listed = self._anonymous
        if caller.credential_id != ANONYMOUS:
            listed = self._certified.value.get(caller.credential_id) if self._certified else None
        if listed is None or listed.owner_id != caller.owner_id:
            raise Unauthenticated(
                f"the caller {caller.credential_id} is no longer listed in AUTHSVC_CALLERS",
                reason="CERTIFICATE_UNKNOWN",
                certificate=caller.credential_id,
            )
        caller = caller._replace(scopes=listed.scopes)
        caller.refuse_without_scopes()
        return caller
