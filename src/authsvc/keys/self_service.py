"""RevokeSelf and RotateSelf: whoever holds a key may end or replace it."""

from datetime import datetime, timedelta
from typing import Protocol

from authsvc.keys.last_administrator import refuse_to_end_last
from authsvc.keys.minting import NewKeyString
from authsvc.keys.rotate import KeyRotation
from authsvc.keys.sealing import Recipient
from authsvc.model.audit_event import Action
from authsvc.model.caller import Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import FailedPrecondition
from authsvc.model.key import Key
from authsvc.model.key_event import key_events
from authsvc.revocation.authority import Claim
from authsvc.revocation.barrier import Barrier
from authsvc.store import keys as key_store


class SelfService(KeyRotation, Protocol):
    """Changes the key that a call is made with."""

    _barrier: Barrier

    async def revoke_self(
        self, caller: Caller, *, reason: str, allow_last_administrator: bool = False
    ) -> tuple[str, datetime]:
        """Revoke the caller's own key now; return its id, and when (rules 15, 16).

        No policy forbids it: it takes authority away, and gives none.

        Raises:
            FailedPrecondition: CALLER_NOT_A_KEY; LAST_ADMINISTRATOR_KEY, unless `allow_last_administrator`.
        """
        key_id = _own_key(caller)
        claim = Claim(changes=[key_id], revokes=True)
        async with self._barrier.change(caller, claim, done="revoked") as change:
            # It exists, and is not revoked: the caller was judged under the lock.
            key: Key = (await key_store.find(change.connection, [key_id]))[key_id]
            change.key_prefixes.add(key.key_prefix)
            await refuse_to_end_last(change.connection, [key], self._clock, allowed=allow_last_administrator)
            now = self._clock()
            revoked = key.revoked(now, at=now, by=key_id, reason=reason)
            events = key_events(caller, Action.KEY_REVOKED, [revoked], at=now)
            await key_store.revoke(change.connection, [revoked], events)
        return key_id, now

    async def rotate_self(
        self,
        caller: Caller,
        grace_period: timedelta,
        request_id: str = "",
        *,
        seal_to: Recipient | None = None,
    ) -> tuple[Key, NewKeyString]:
        """Replace the caller's own key; return the new key with its key string. The owner's policy holds.

        Raises what `rotate` raises, and FailedPrecondition: CALLER_NOT_A_KEY.
        """
        return await self.rotate(caller, _own_key(caller), grace_period, request_id, seal_to=seal_to)


def _own_key(caller: Caller) -> str:
    if caller.kind is not CredentialKind.KEY:
        raise FailedPrecondition(
            "this call is about the key that it is made with, and it is made without one; send "
            "authorization: Bearer <key string>",
            reason="CALLER_NOT_A_KEY",
        )
    return caller.credential_id
