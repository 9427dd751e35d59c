"""The policy of an owner: what it may do with API keys.

    create, rotate              ─▶ check_new
    update                      ─▶ check_update
    add an active key           ─▶ refuse_more
    the caller of any of these  ─▶ refuse_manager

A policy applies to later calls: an existing key keeps what it has until it is updated or rotated. Only
`keys_enabled`, `allowed_networks` and `rate_limits` affect existing keys at once, because verification checks
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from hashlib import blake2b
from typing import Self

from authsvc.model.caller import PLATFORM_OWNER, Caller
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import FailedPrecondition, PermissionDenied
from authsvc.model.key import Key
from authsvc.model.rate_limit import RateLimit
from authsvc.model.scope import missing

DETAILS = frozenset({"display_name", "description", "technical_contacts"})
UNLIMITED = timedelta(0)


class KeyEdits(Enum):
    """What UpdateKey may change (rule 8)."""

    NONE = "none"
    DETAILS = "details"
    ALL = "all"


class KeyManagers(Enum):
    """Who may manage an owner's keys, besides the platform (rule 6)."""

    ANY = "any"
    SESSIONS_ONLY = "sessions_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerPolicy:
    """The policy of an owner. Zero or empty means no limit, which is the default of each field.

    `version` is 0 and `update_time` None if the owner has no policy of its own, but the operator's default.
    """

    owner_id: str = ""
    keys_enabled: bool = True
    max_active_keys: int = 0
    allowed_scopes: tuple[str, ...] = ()
    max_key_lifetime: timedelta = UNLIMITED
    expiration_required: bool = False
    contacts_required: bool = False
    key_edits: KeyEdits = KeyEdits.ALL
    key_managers: KeyManagers = KeyManagers.ANY
    brand: str = ""
    allowed_networks: tuple[str, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    rotation_period: timedelta = UNLIMITED  # the age at which contacts are asked to rotate a key; 0: never
    update_time: datetime | None = None
    version: int = 0

    @property
    def etag(self) -> str:
        """An identifier of this version of the policy."""
        return blake2b(f"{self.owner_id}/{self.version}".encode(), digest_size=8).hexdigest()

    def of(self, owner_id: str) -> Self:
        """Return this default policy for an owner.

        The platform has no policy, and so no limits. Its keys become due to be rotated like all others, which
        refuses nothing.
        """
        if owner_id == PLATFORM_OWNER:
            return type(self)(owner_id=owner_id, rotation_period=self.rotation_period)
        return replace(self, owner_id=owner_id)

    def enables_keys(self, owner_id: str, own: bool | None) -> bool:
        """Return whether the keys of an owner work, under this default policy.

        `own` is `keys_enabled` of the owner's own policy; None without one.
        """
        return owner_id == PLATFORM_OWNER or (self.keys_enabled if own is None else own)

    def differs(self, fields: Mapping[str, object]) -> bool:
        """Return whether one of these fields has another value in this version of the policy."""
        return any(getattr(self, name) != value for name, value in fields.items())

    def changed(self, now: datetime, **fields: object) -> Self:
        """Return the next version of the policy with other fields."""
        return replace(self, update_time=now, version=self.version + 1, **fields)  # type: ignore[arg-type]

    def check_new(self, key: Key) -> None:
        """Raise FailedPrecondition for a new key that the policy forbids (rules 2, 4, 7).

        `refuse_more` checks the number of keys.
        """
        self.refuse_if_disabled()
        self._check_scopes(key.scopes)
        self._check_expiry(key)
        self._check_contacts(key)

    def successor_expire_time(self, old: Key, now: datetime) -> datetime | None:
        """Return when the successor of `old` expires: after the same lifetime, or the longest allowed."""
        length = None if old.expire_time is None else old.expire_time - old.create_time
        if self.max_key_lifetime and (length is None or length > self.max_key_lifetime):
            length = self.max_key_lifetime
        return None if length is None else now + length

    def check_update(self, key: Key, fields: Mapping[str, object]) -> None:
        """Raise FailedPrecondition when the policy forbids an update of these fields (rule 8).

        Values that the update does not change are not checked again.
        """
        fixed = sorted(set(fields) - self._editable(fields))
        if fixed:
            allowed = "nothing" if self.key_edits is KeyEdits.NONE else ", ".join(sorted(DETAILS))
            raise self._forbidden(
                "KEY_EDIT_NOT_ALLOWED",
                "key_edits",
                f"does not allow changes of {', '.join(fixed)}, only of {allowed}; create a new key instead",
                fields=",".join(fixed),
            )
        changed = replace(key, **fields)  # type: ignore[arg-type]
        self._check_scopes([scope for scope in changed.scopes if scope not in key.scopes])
        if changed.expire_time != key.expire_time:
            self._check_expiry(changed)
        if changed.technical_contacts != key.technical_contacts:
            self._check_contacts(changed)

    def refuse_if_disabled(self) -> None:
        """Raise FailedPrecondition for an owner whose API keys are switched off (rule 7)."""
        if not self.keys_enabled:
            problem = "has API keys switched off; switch them on first"
            raise self._forbidden("API_KEYS_NOT_ENABLED", "keys_enabled", problem)

    def refuse_brand(self, brand: str) -> None:
        """Raise FailedPrecondition for another brand than that of the policy."""
        if brand and self.brand not in ("", brand):
            problem = f"requires the brand {self.brand}; leave brand empty"
            raise self._forbidden("BRAND_NOT_ALLOWED", "brand", problem)

    def refuse_more(self, others: int, *, rotated: bool = False) -> None:
        """Raise FailedPrecondition when an owner with `others` active keys may not have one more (rule 5).

        With `rotated`, `others` counts keys in the grace period of a rotation, which have the same limit.
        """
        if not self.max_active_keys or others < self.max_active_keys:
            return
        plural = "" if self.max_active_keys == 1 else "s"
        limit = f"allows at most {self.max_active_keys}"
        if rotated:
            problem = (
                f"{limit} key{plural} in the grace period of a rotation; revoke one, or rotate without one"
            )
        else:
            problem = f"{limit} active key{plural}; revoke or rotate one first"
        raise self._forbidden("MAX_ACTIVE_KEYS", "max_active_keys", problem, limit=str(self.max_active_keys))

    def allows_manager(self, caller: Caller) -> bool:
        """Return whether a caller may manage the owner's keys (rule 6)."""
        is_any = self.key_managers is KeyManagers.ANY or caller.owner_id == PLATFORM_OWNER
        return is_any or caller.kind is CredentialKind.SESSION

    def refuse_manager(self, caller: Caller) -> None:
        """Raise PermissionDenied for a caller that may not manage the owner's keys (rule 6)."""
        if not self.allows_manager(caller):
            raise PermissionDenied(
                f"the policy of {self.owner_id} allows only signed-in users to manage its keys; "
                "call with a session token",
                reason="KEY_MANAGER_NOT_PERMITTED",
                policy_field="key_managers",
            )

    def _editable(self, fields: Mapping[str, object]) -> frozenset[str]:
        match self.key_edits:
            case KeyEdits.NONE:
                return frozenset()
            case KeyEdits.DETAILS:
                return DETAILS
            case KeyEdits.ALL:
                return frozenset(fields)

    def _check_scopes(self, scopes: Sequence[str]) -> None:
        others = missing(self.allowed_scopes, scopes) if self.allowed_scopes else []
        if others:
            raise self._forbidden(
                "SCOPE_NOT_ALLOWED",
                "allowed_scopes",
                f"does not allow {', '.join(others)}; use some of {', '.join(self.allowed_scopes)}",
                scopes=",".join(others),
            )

    def _check_expiry(self, key: Key) -> None:
        longest = self.max_key_lifetime
        if key.expire_time is None:
            if self.expiration_required or longest:
                within = f", within {readable_length(longest)} of its creation" if longest else ""
                field = "expiration_required" if self.expiration_required else "max_key_lifetime"
                problem = f"requires an expiry; set one{within}"
                raise self._forbidden("EXPIRATION_REQUIRED", field, problem)
        elif longest and key.expire_time > key.create_time + longest:
            raise self._forbidden(
                "KEY_LIFETIME_TOO_LONG",
                "max_key_lifetime",
                f"allows a lifetime of at most {readable_length(longest)} from creation; "
                "choose an earlier expiry",
                limit_seconds=f"{longest.total_seconds():.0f}",
            )

    def _check_contacts(self, key: Key) -> None:
        if self.contacts_required and not key.technical_contacts:
            problem = "requires a technical contact; add one to technical_contacts"
            raise self._forbidden("CONTACTS_REQUIRED", "contacts_required", problem)

    def _forbidden(self, reason: str, field: str, problem: str, **metadata: str) -> FailedPrecondition:
        """Return the error for a field of the policy; `problem` says what it requires and what to do."""
        message = f"the policy of {self.owner_id} {problem}"
        return FailedPrecondition(message, reason=reason, policy_field=field, **metadata)


def duration_text(length: timedelta) -> str:
    """Return a length of time as JSON shows a Duration: in seconds, such as `7776000s`."""
    return f"{length.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"


def readable_length(length: timedelta) -> str:
    """Return a length of time for people: `90 days`, or in seconds if that is not whole."""
    days, rest = divmod(length, timedelta(days=1))
    if not rest:
        return f"{days} day{'' if days == 1 else 's'}"
    return f"{length.total_seconds():g} s"
