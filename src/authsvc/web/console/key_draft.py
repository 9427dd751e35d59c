"""What is typed into the form of a key: read from the form, or from a key, and written into a request."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1.key_service_pb2 import CreateKeyRequest, ExpirationPreset
from authsvc.v1.resources_pb2 import Key, TechnicalContact
from authsvc.web.console.forms import Form
from authsvc.web.console.problem import Problem
from authsvc.web.console.shown import instant

MAX_CONTACTS = 16
#: By the value of the choice.
PRESETS = {
    "five_days": ExpirationPreset.EXPIRATION_PRESET_FIVE_DAYS,
    "one_month": ExpirationPreset.EXPIRATION_PRESET_ONE_MONTH,
    "six_months": ExpirationPreset.EXPIRATION_PRESET_SIX_MONTHS,
    "one_year": ExpirationPreset.EXPIRATION_PRESET_ONE_YEAR,
    "unlimited": ExpirationPreset.EXPIRATION_PRESET_UNLIMITED,
}
#: Other choices: a date; for a key that exists, what it has.
DATE, KEEP, NEVER = "date", "keep", "never"
_INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Draft(NamedTuple):
    """The fields of the form, as they are typed."""

    name: str = ""
    description: str = ""
    scopes: Sequence[str] = ()
    other_scopes: str = ""
    contacts: Sequence[tuple[str, str]] = (("", ""),)
    expiry: str = "one_year"
    date: str = ""
    environment: str = "live"

    @property
    def all_scopes(self) -> list[str]:
        """The scopes that are chosen or typed, each once."""
        return list(dict.fromkeys([*self.scopes, *self.other_scopes.replace(",", " ").split()]))

    @property
    def filled_contacts(self) -> list[TechnicalContact]:
        """The contacts with a name or an address."""
        return [TechnicalContact(name=name, email=email) for name, email in self.contacts if name or email]

    def expire_time(self) -> Timestamp:
        """Return the end of the chosen day. Raises Problem for what is not a date."""
        try:
            end = datetime.combine(date.fromisoformat(self.date) + timedelta(days=1), time(), UTC)
        except (ValueError, OverflowError):
            raise Problem(_INVALID, "DATE", fields={"expire_time": ""}) from None
        stamp = Timestamp()
        stamp.FromDatetime(end)
        return stamp


def draft_of_form(form: Form) -> Draft:
    """Return what was typed. One more contact is offered if `more` was pressed."""
    pairs = zip(form.all("contact_name"), form.all("contact_email"), strict=False)
    contacts = [(name.strip(), email.strip()) for name, email in pairs][:MAX_CONTACTS]
    if "more" in form and len(contacts) < MAX_CONTACTS:
        contacts.append(("", ""))
    return Draft(
        form("name"),
        form("description"),
        form.all("scope"),
        form("other_scopes"),
        contacts or [("", "")],
        form("expiry"),
        form("date"),
        form("environment") or "live",
    )


def draft_of_key(key: Key, offered: Collection[str]) -> Draft:
    """Return what a key has; scopes that are not offered are in the field for others."""
    has_end = key.HasField("expire_time")
    return Draft(
        key.display_name,
        key.description,
        list(key.scopes),
        " ".join(scope for scope in key.scopes if scope not in offered),
        [(contact.name, contact.email) for contact in key.technical_contacts] or [("", "")],
        KEEP,
        # The day whose end is nearest; it only helps to choose another one.
        (instant(key.expire_time) - timedelta(days=1)).date().isoformat() if has_end else "",
    )


def create_request(draft: Draft, owner_id: str, request_id: str) -> CreateKeyRequest:
    """Return the request that creates the key. Raises Problem."""
    asked = CreateKeyRequest(
        owner_id=owner_id,
        display_name=draft.name,
        description=draft.description,
        scopes=draft.all_scopes,
        technical_contacts=draft.filled_contacts,
        environment=draft.environment,
        request_id=request_id,
    )
    if draft.expiry == DATE:
        asked.expire_time.CopyFrom(draft.expire_time())
    elif draft.expiry in PRESETS:
        asked.expiration_preset = PRESETS[draft.expiry]
    else:
        raise Problem(_INVALID, "EXPIRY", fields={"expire_time": ""})
    return asked
