"""The authority of callers: a revoked caller's change is committed before the revocation, or not at all.

Mechanism (R9 in docs/revocation.md): a transaction that changes something first takes shared locks on what
its caller's authority rests on. Whatever takes authority away takes exclusive locks on the same. Then the
credential of the caller is read, in a later snapshot, and judged as verification judges it. Last, before the
commit, its times are compared with the clock again, because the transaction may have waited. The message that
commits may wait for the end of the feed, so the database compares them there. A caller with a certificate is
looked up in the file of callers, which is reloaded first if it has changed.

Bound: one statement, and for callers with a certificate one read of a file.

Failure: a caller that has lost its authority is refused, and nothing is written. A file that cannot be read,
or is not valid, counts as unchanged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Protocol

from authsvc.model.caller import ANONYMOUS, INTERNAL, Caller
from authsvc.model.credential import Credential
from authsvc.model.errors import Unauthenticated
from authsvc.model.refusal import REFUSALS
from authsvc.model.verdict import VerdictCode, decide
from authsvc.store import authority as authority_store
from authsvc.store.authority import Claim
from authsvc.store.driver_errors import AuthorityOver
from authsvc.store.lock_wait import LockWait
from authsvc.store.policies import PolicyStore
from authsvc.store.pool import Connection, Database

__all__ = ["Authority", "Authorized", "CallerFile", "Claim"]

# A file system that hangs must not prolong the locks of a transaction.
_MAX_READ_SECONDS = 1.0


class CallerFile(Protocol):
    """The file that maps the names in client certificates to callers."""

    @property
    def value(self) -> Mapping[str, Caller]:
        """The callers by name, as they were read last."""

    async def look(self) -> None:
        """Reload the file if it has changed."""


class Authorized:
    """A caller whose authority is locked for a transaction."""

    def __init__(self, authority: "Authority", caller: Caller, credential: Credential | None) -> None:
        self._authority = authority
        self._credential = credential
        self._is_confirmed = False
        self._last_checks: list[tuple[datetime, Callable[[datetime], None]]] = []
        self.caller = caller

    async def confirm(self) -> None:
        """Reload the file of a caller with a certificate, once; raise like `refuse_if_gone`."""
        if not self._is_confirmed:
            self._is_confirmed = True
            await self._authority.read_caller_file(self.caller)
            self.refuse_if_gone()

    def check_last(self, until: datetime, check: Callable[[datetime], None]) -> None:
        """Allow the change before the instant `until` only; from then on `check` raises for an instant."""
        self._last_checks.append((until, check))

    def refuse_if_gone(self, at: datetime | None = None) -> None:
        """Raise unless the caller has authority for its call now, or at a later instant.

        The last step before a commit. Raises Unauthenticated or PermissionDenied, and what the checks of
        `check_last` raise.
        """
        now = self.now if at is None else max(self.now, at)
        self.caller = self._authority.judge(self.caller, self._credential, now)
        for _, check in self._last_checks:
            check(now)

    @property
    def end(self) -> datetime | None:
        """The instant from which on `refuse_if_gone` raises, as far as that is a matter of time."""
        times: list[datetime | None] = [until for until, _ in self._last_checks]
        if self._credential is not None:
            times += [self._credential.expire_time, self._credential.revoke_time]
        return min(filter(None, times), default=None)

    @property
    def now(self) -> datetime:
        """The time of the service."""
        return self._authority.now()


class Authority:
    """Decides what callers may do, at the instant at which they do it."""

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
        self,
        caller: Caller,
        claim: Claim | None = None,
        *,
        last: Callable[[Authorized], str] = lambda _: "",
    ) -> AsyncIterator[tuple[Connection, Authorized]]:
        """Run a transaction that holds the locks of its caller and of `claim`; commit it at the end (R9).

        `last` returns the statement that is sent with the COMMIT, or "". If it may wait for a lock, it has to
        fail with AuthorityOver from `Authorized.end` on.

        Raises, with nothing written: Unauthenticated or PermissionDenied when the caller has lost its
        authority by the time the locks are held or by the end; what `Database.transaction` raises.
        """
        claim = claim or Claim()
        whole_owner = claim.changes_owner is not None or claim.ends_sessions_of is not None
        wait = LockWait.OWNER if whole_owner else LockWait.USUAL
        authorized: Authorized | None = None
        lent = self._database.transaction(
            caller.quota_owner,
            revokes=claim.revokes,
            lock_wait=wait,
            last=lambda: last(authorized) if authorized else "",
        )
        try:
            async with lent as connection:
                held = await self.hold(connection, [caller], claim)
                authorized = held(caller)
                yield connection, authorized
                await authorized.confirm()
                authorized.refuse_if_gone()
        except AuthorityOver:
            if authorized is not None:
                authorized.refuse_if_gone(authorized.end)
            raise

    async def hold(
        self, connection: Connection, callers: Collection[Caller], claim: Claim
    ) -> Callable[[Caller], Authorized]:
        """Lock what the authority of callers rests on, and what is claimed, until the transaction ends.

        Returns a function that gives each of these callers with its current scopes. It raises
        Unauthenticated or PermissionDenied for a caller that has lost its authority.
        """
        credentials = await authority_store.hold(connection, callers, claim, self._policies.default)

        def authorized(caller: Caller) -> Authorized:
            credential = credentials.get(caller.credential_id) if caller.kind is not None else None
            return Authorized(self, self.judge(caller, credential), credential)

        return authorized

    def now(self) -> datetime:
        """Return the time of the service, which is that of the database."""
        return self._clock()

    def judge(self, caller: Caller, credential: Credential | None, now: datetime | None = None) -> Caller:
        """Return a caller with its current scopes.

        Raises Unauthenticated when its credential is not valid, or when it is no longer listed;
        PermissionDenied when its scopes do not allow its call.
        """
        if caller.kind is None:
            return self._listed(caller)
        # A row is deleted only after the credential was revoked or has ended.
        code = (
            VerdictCode.REVOKED
            if credential is None
            else decide(credential, (), now or self._clock(), caller.client_ip).code
        )
        if credential is None or code is not VerdictCode.VALID:
            reason, problem = REFUSALS[code]
            raise Unauthenticated(f"the credential in the authorization header {problem}", reason=reason)
        caller = caller._replace(scopes=credential.scopes)
        caller.refuse_without_scopes()
        return caller

    async def read_caller_file(self, caller: Caller) -> None:
        """Reload the file of callers, if this caller has its authority from there."""
        by_certificate = caller.kind is None and caller.credential_id not in (ANONYMOUS, *INTERNAL)
        if by_certificate and self._certified is not None:
            # A file that cannot be read in time counts as unchanged.
            with suppress(TimeoutError):
                async with asyncio.timeout(_MAX_READ_SECONDS):
                    await self._certified.look()

    def _listed(self, caller: Caller) -> Caller:
        """Return a caller without a credential as it is configured now."""
        if caller.credential_id in INTERNAL:
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
