"""What a new key is to be, before it has an id, a prefix and a stamp."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.key import TechnicalContact

# Dates further away are mistakes, and would overflow a calendar some day.
FURTHEST = timedelta(days=36525)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """The client's wishes. An empty `brand` or `environment` means the default."""

    owner_id: str
    display_name: str
    description: str = ""
    scopes: tuple[str, ...] = ()
    technical_contacts: tuple[TechnicalContact, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    expiration: datetime | timedelta | ExpirationPreset = ExpirationPreset.UNLIMITED
    brand: str = ""
    environment: str = ""

    def expire_time(self, now: datetime) -> datetime | None:
        """Return the instant of expiry of a key made at `now`; raise InvalidArgument for one that is past."""
        match self.expiration:
            case timedelta():
                return checked_expire_time("ttl", now + self.expiration, now)
            case datetime():
                return checked_expire_time("expire_time", self.expiration, now)
            case ExpirationPreset():
                return self.expiration.after(now)


def checked_expire_time(path: str, expire_time: datetime, now: datetime) -> datetime:
    """Return an instant of expiry that somebody chose, when it lies in a future that makes sense (rule 3)."""
    if expire_time <= now:
        problem = (
            f"lies in the past (it is {now:%Y-%m-%dT%H:%M:%SZ} now); choose a later one, or revoke the key"
        )
        raise InvalidArgument(FieldViolation(path, "expire_time.future", problem))
    if expire_time > now + FURTHEST:
        problem = "lies more than 100 years ahead; leave it unset for a key that never expires"
        raise InvalidArgument(FieldViolation(path, "expire_time.furthest", problem))
    return expire_time
