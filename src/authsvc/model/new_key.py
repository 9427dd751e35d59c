"""The request for a new key, before it has an id, a prefix and a creation time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from authsvc.model.credits import Credits
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.identifier import new_identifier
from authsvc.model.key import Key, TechnicalContact
from authsvc.model.rate_limit import RateLimit

# Later dates are mistakes, and could overflow the calendar.
_MAX_LIFETIME = timedelta(days=36525)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """The fields of a new key. An empty `brand` or `environment` means the default."""

    owner_id: str
    display_name: str
    description: str = ""
    scopes: tuple[str, ...] = ()
    technical_contacts: tuple[TechnicalContact, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    expiration: datetime | timedelta | ExpirationPreset = ExpirationPreset.UNLIMITED
    brand: str = ""
    environment: str = ""
    allowed_networks: tuple[str, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    credits: Credits | None = None

    def key(self, key_prefix: str, now: datetime, *, creator_id: str) -> Key:
        """Return the key that this asks for, created at `now`. Raises InvalidArgument as `expire_time`.

        Every way to create a key takes it from here, so that none forgets a field.
        """
        return Key(
            key_id=new_identifier("key", now),
            owner_id=self.owner_id,
            key_prefix=key_prefix,
            display_name=self.display_name,
            description=self.description,
            scopes=tuple(sorted(self.scopes)),
            technical_contacts=self.technical_contacts,
            annotations=self.annotations,
            create_time=now,
            creator_id=creator_id,
            update_time=now,
            expire_time=self.expire_time(now),
            allowed_networks=self.allowed_networks,
            rate_limits=self.rate_limits,
            credits=None if self.credits is None else self.credits.for_new("credits"),
        )

    def expire_time(self, now: datetime) -> datetime | None:
        """Return when a key that is created at `now` expires; None for never.

        Raises InvalidArgument for an instant in the past or more than 100 years ahead.
        """
        match self.expiration:
            case timedelta():
                return checked_expire_time("ttl", now + self.expiration, now)
            case datetime():
                return checked_expire_time("expire_time", self.expiration, now)
            case ExpirationPreset():
                return self.expiration.after(now)


def checked_expire_time(path: str, expire_time: datetime, now: datetime) -> datetime:
    """Return the expiry time that a client chose (rule 3).

    Raises InvalidArgument, for the field `path`, if it is in the past or more than 100 years ahead.
    """
    if expire_time <= now:
        problem = (
            f"is in the past (it is {now:%Y-%m-%dT%H:%M:%SZ} now); choose a later time, or revoke the key"
        )
        raise InvalidArgument(FieldViolation(path, "expire_time.future", problem))
    if expire_time > now + _MAX_LIFETIME:
        problem = "is more than 100 years ahead; leave it unset for a key that never expires"
        raise InvalidArgument(FieldViolation(path, "expire_time.furthest", problem))
    return expire_time
