"""RefundCredits."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from authsvc import audit
from authsvc.keys.change import Changes
from authsvc.model import platform
from authsvc.model.caller import Caller
from authsvc.model.catalogue import Catalogue
from authsvc.model.credits import Credits
from authsvc.model.errors import AlreadyExists, FailedPrecondition
from authsvc.model.key import Key
from authsvc.model.key_event import refund_event
from authsvc.store import credits as credit_store


class KeyRefunds(Protocol):
    """Gives credits back."""

    _changes: Changes
    _catalogue: Catalogue
    _clock: Callable[[], datetime]

    async def refund_credits(self, caller: Caller, key_id: str, amount: int, refund_id: str) -> Credits:
        """Give back credits that were spent; return those of the key.

        A `refund_id` that was used for the credits of this key within 30 days changes nothing. The key may be
        in any state: its successor may have the same credits.

        Raises:
            NotFound: KEY_NOT_FOUND, if it is unknown or of another owner.
            AlreadyExists: REFUND_REPEATED, if the `refund_id` was used with another amount.
            FailedPrecondition: KEY_HAS_NO_CREDITS; REFUND_EXCEEDS_SPENT, if fewer were spent since the
                credits were set or refilled.
            PermissionDenied: SCOPE_NOT_GRANTABLE, if the caller lacks a scope of the key;
                PLATFORM_NEEDS_FULL_ACCESS; KEY_MANAGER_NOT_PERMITTED, by the owner's policy.
        """
        async with self._changes.of_key(caller, key_id, affects_verification=False) as (change, key, _):
            # More credits are more of all that the key may do.
            platform.refuse_credential_of(change.caller, key.owner_id)
            self._catalogue.check_held(change.caller, key.scopes)
            connection, account_id = change.connection, key.account_id
            account = await credit_store.lock(connection, key)
            before = account.of_key
            if before is None:
                raise FailedPrecondition(
                    f"key {key_id} has no credits, so none can be given back; set them with UpdateKey",
                    reason="KEY_HAS_NO_CREDITS",
                    key_id=key_id,
                )
            earlier = await credit_store.find_refund(connection, account_id, refund_id)
            if earlier is not None:
                _refuse_other(key, refund_id, earlier, amount)
                return before
            _refuse_more(key, amount, account.spent)
            now = self._clock()
            await credit_store.refund(connection, account_id, refund_id, amount, at=now)
            event = refund_event(caller, key, amount=amount, refund_id=refund_id, at=now)
            await audit.record_many(connection, [event])
        return replace(before, remaining=(before.remaining or 0) + amount)


def _refuse_other(key: Key, refund_id: str, earlier: int, amount: int) -> None:
    if earlier != amount:
        raise AlreadyExists(
            f"refund {refund_id} has given back {earlier} credits before, not {amount}; use another "
            "refund_id for another refund",
            reason="REFUND_REPEATED",
            key_id=key.key_id,
        )


def _refuse_more(key: Key, amount: int, spent: int) -> None:
    if amount > spent:
        raise FailedPrecondition(
            f"{amount} credits cannot be given back: key {key.key_id} has spent {spent} since its credits "
            "were set or refilled; to give it more, set them with UpdateKey",
            reason="REFUND_EXCEEDS_SPENT",
            key_id=key.key_id,
        )
