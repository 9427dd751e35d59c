"""A key and the rules of its life cycle.

    ACTIVE ──expire_time──▶ EXPIRED ──revoke──▶ REVOKED ──delete──▶ gone
     │  ▲ └────────────────revoke_time─────────────▲
  disable, enable or disabled_until
     ▼  │
    DISABLED ──expire_time or revoke_time──▶ EXPIRED or REVOKED

The state is derived from the times and never stored. A revocation may be scheduled. Once it has taken effect,
it is final (rule 16). A key that is disabled expires and is revoked like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from hashlib import blake2b
from typing import Self

from authsvc.model.caller import ANONYMOUS, Caller
from authsvc.model.credits import Credits
from authsvc.model.delivery import ANSWERED_WITHIN, REPLACED_WITHIN, Delivery
from authsvc.model.errors import AlreadyDone, FailedPrecondition
from authsvc.model.look_up import is_foreign
from authsvc.model.pause import Pause
from authsvc.model.rate_limit import RateLimit

#: Why the old key of a rotation is going to be revoked. Another reason is that of another revocation.
ROTATED = "rotated"


class KeyState(Enum):
    """Whether a key can be used."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    DISABLED = "DISABLED"


class RevokeCause(Enum):
    """What led to a revocation, as it is stored. A rotation was requested, too."""

    REQUESTED = ""
    LEAKED = "leaked"
    #: The key that created this one, directly or not, was revoked with all its descendants.
    CREATOR_REVOKED = "creator revoked"


@dataclass(frozen=True, slots=True)
class TechnicalContact:
    """A person to contact about a key."""

    name: str
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key without its secret. Instants are UTC; a text that is not set is empty."""

    key_id: str
    owner_id: str
    key_prefix: str
    display_name: str
    description: str = ""
    scopes: tuple[str, ...] = ()
    technical_contacts: tuple[TechnicalContact, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    create_time: datetime
    creator_id: str
    update_time: datetime
    expire_time: datetime | None = None
    revoke_time: datetime | None = None
    revoker_id: str = ""
    revoke_reason: str = ""
    revoke_cause: RevokeCause = RevokeCause.REQUESTED
    # The key with which it was revoked, for CREATOR_REVOKED.
    revoked_with_key_id: str = ""
    last_use_time: datetime | None = None
    last_use_ip: str = ""
    rotated_from_key_id: str = ""
    rotated_to_key_id: str = ""
    delivery: Delivery | None = None
    allowed_networks: tuple[str, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    # Whose units it takes from its rate limits: its own, or those of the first key that it goes back to by
    # rotation, so that a rotation gives nobody new ones.
    budget_id: str = ""
    credits: Credits | None = None
    pause: Pause | None = None
    version: int = 1

    @property
    def account_id(self) -> str:
        """Whose credits and units of rate limits it takes."""
        return self.budget_id or self.key_id

    def state(self, now: datetime) -> KeyState:
        """Return the state at `now`. A revoked key is REVOKED even when it has expired (rule 12).

        A key that was revoked immediately (`revoke_time` is not later than `update_time`) is REVOKED even if
        the clock was set back since (rule 16).
        """
        if self.revoke_time is not None and max(now, self.update_time) >= self.revoke_time:
            return KeyState.REVOKED
        if self.expire_time is not None and now >= self.expire_time:
            return KeyState.EXPIRED
        if self.pause is not None and self.pause.lasts(now):
            return KeyState.DISABLED
        return KeyState.ACTIVE

    def never_delivered(self, now: datetime) -> bool:
        """Return whether nobody has the key string, as far as is known."""
        if self.delivery is None or self.last_use_time is not None:
            return False
        return self.delivery is Delivery.LOST or now - self.create_time > ANSWERED_WITHIN

    def is_answered_still(self, caller: Caller, now: datetime) -> bool:
        """Return whether this caller created the key, and the answer with its string may still arrive."""
        on_its_way = self.delivery is Delivery.PENDING and self.last_use_time is None
        return on_its_way and not self.never_delivered(now) and self._was_created_by(caller)

    def may_be_replaced(self, caller: Caller, now: datetime) -> bool:
        """Return whether this caller created the key recently and never received its string."""
        return (
            self.never_delivered(now)
            and self._was_created_by(caller)
            and now - self.create_time <= REPLACED_WITHIN
            and self.state(now) not in (KeyState.REVOKED, KeyState.DISABLED)
        )

    def _was_created_by(self, caller: Caller) -> bool:
        # A successor is excluded, because the rotated key refers to it. Anonymous callers are not
        # distinguishable.
        return not self.rotated_from_key_id and self.creator_id == caller.credential_id != ANONYMOUS

    def outlives(self, before: Self) -> bool:
        """Return whether this version of the key can be used for longer than an earlier one."""
        if (end := before._end) is None:
            return False
        return self._end is None or self._end > end

    @property
    def _end(self) -> datetime | None:
        """When the key stops working; None if that is not known."""
        return min((time for time in (self.expire_time, self.revoke_time) if time), default=None)

    @property
    def is_imported(self) -> bool:
        """Whether the key string was made elsewhere; `key_prefix` is its look-up then."""
        return is_foreign(self.key_prefix)

    @property
    def etag(self) -> str:
        """An identifier of this version of the key; the use of the key does not change it."""
        return blake2b(f"{self.key_id}/{self.version}".encode(), digest_size=8).hexdigest()

    def differs(self, fields: Mapping[str, object]) -> bool:
        """Return whether one of these fields has another value in this version of the key."""
        return any(getattr(self, name) != value for name, value in fields.items())

    def changed(self, now: datetime, **fields: object) -> Self:
        """Return the next version of the key with other fields."""
        return replace(self, update_time=now, version=self.version + 1, **fields)  # type: ignore[arg-type]

    def revoked(self, now: datetime, *, at: datetime, by: str, reason: str) -> Self:
        """Return the key with its revocation at `at`; a scheduled one is moved (rule 17).

        Raises AlreadyDone when the key is revoked.
        """
        self.refuse_if_revoked(now)
        return self.changed(now, revoke_time=at, revoker_id=by, revoke_reason=reason)

    def leaked(self, now: datetime, *, by: str, reason: str) -> Self:
        """Return the key as revoked now, since others know its secret. Raises AlreadyDone when it is."""
        revoked = self.revoked(now, at=now, by=by, reason=reason)
        return replace(revoked, revoke_cause=RevokeCause.LEAKED)

    def revoked_with(self, creator_id: str, now: datetime, *, by: str, reason: str) -> Self:
        """Return the key as revoked now, with the key that created it. Raises AlreadyDone when it is."""
        revoked = self.revoked(now, at=now, by=by, reason=reason)
        return replace(revoked, revoke_cause=RevokeCause.CREATOR_REVOKED, revoked_with_key_id=creator_id)

    def replaced(self, now: datetime, *, at: datetime, by: str, successor_id: str) -> Self:
        """Return the key as rotated: revoked at `at`, or earlier if that was scheduled (rule 30)."""
        changed = self.changed(now, rotated_to_key_id=successor_id)
        if self.revoke_time is not None and self.revoke_time <= at:
            return changed
        return replace(changed, revoke_time=at, revoker_id=by, revoke_reason=ROTATED)

    def disabled(self, now: datetime, pause: Pause) -> Self:
        """Return the key as disabled; an earlier pause is replaced. Raises AlreadyDone when it is revoked."""
        self.refuse_if_revoked(now)
        return self.changed(now, pause=pause)

    def enabled(self, now: datetime) -> Self:
        """Return the key without its pause. Raises AlreadyDone when it is revoked."""
        self.refuse_if_revoked(now)
        return self.changed(now, pause=None)

    def refuse_if_revoked(self, now: datetime) -> None:
        """Raise AlreadyDone when the revocation has taken effect."""
        if self.revoke_time is not None and self.state(now) is KeyState.REVOKED:
            raise AlreadyDone(
                f"key {self.key_id} was already revoked at {self.revoke_time.isoformat()}; create a new key",
                reason="KEY_ALREADY_REVOKED",
                key_id=self.key_id,
            )

    def refuse_to_rotate(self, now: datetime) -> None:
        """Raise AlreadyDone if the key is revoked or rotated, FailedPrecondition if expired or disabled."""
        self.refuse_if_revoked(now)
        if self.rotated_to_key_id:
            raise AlreadyDone(
                f"key {self.key_id} was already rotated to {self.rotated_to_key_id}; rotate that one",
                reason="KEY_ALREADY_ROTATED",
                key_id=self.key_id,
                rotated_to_key_id=self.rotated_to_key_id,
            )
        if self.state(now) is KeyState.DISABLED:
            raise FailedPrecondition(
                f"key {self.key_id} is disabled, and its successor would not be; enable it first",
                reason="KEY_DISABLED",
                key_id=self.key_id,
            )
        if self.state(now) is KeyState.EXPIRED:
            raise FailedPrecondition(
                f"key {self.key_id} has expired; give it a later expire_time first, or create a new key",
                reason="KEY_EXPIRED",
                key_id=self.key_id,
            )
