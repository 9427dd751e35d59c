"""What is typed into the form of a key: read from the form, or from a key, and written into a request."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.v1.key_service_pb2 import CreateKeyRequest, ExpirationPreset
from authsvc.v1.resources_pb2 import Key
from authsvc.web.console.annotations import MORE as MORE_ANNOTATIONS
from authsvc.web.console.annotations import Annotations, annotations_of, annotations_of_form
from authsvc.web.console.contacts import Contacts, contacts_of, contacts_of_form
from authsvc.web.console.credits import TypedCredits, credits_of, credits_of_form
from authsvc.web.console.forms import Form
from authsvc.web.console.networks import Networks, networks_of, networks_of_form
from authsvc.web.console.problem import Problem
from authsvc.web.console.rate_limits import Limits, limits_of, limits_of_form
from authsvc.web.console.shown import instant

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
    contacts: Contacts = Contacts()
    expiry: str = "one_year"
    date: str = ""
    environment: str = "live"
    annotations: Annotations = Annotations()
    networks: Networks = Networks()
    seal_to: str = ""
    limits: Limits = Limits()
    credits: TypedCredits = TypedCredits()

    @property
    def all_scopes(self) -> list[str]:
        """The scopes that are chosen or typed, each once."""
        return list(dict.fromkeys([*self.scopes, *self.other_scopes.replace(",", " ").split()]))

    def expire_time(self) -> Timestamp:
        """Return the end of the chosen day. Raises Problem for what is not a date."""
        try:
            end = datetime.combine(date.fromisoformat(self.date) + timedelta(days=1), time(), UTC)
        except (ValueError, OverflowError):
            raise Problem(_INVALID, "DATE", fields={"expire_time": ""}) from None
        stamp = Timestamp()
        stamp.FromDatetime(end)
        return stamp


def asks_for_rows(form: Form) -> bool:
    """Return whether a form was sent to get more fields, and not to be saved."""
    return "more" in form or MORE_ANNOTATIONS in form


def draft_of_form(form: Form) -> Draft:
    """Return what was typed."""
    return Draft(
        form("name"),
        form("description"),
        form.all("scope"),
        form("other_scopes"),
        contacts_of_form(form),
        form("expiry"),
        form("date"),
        form("environment") or "live",
        annotations_of_form(form),
        networks_of_form(form),
        form("seal_to"),
        limits_of_form(form),
        credits_of_form(form),
    )


def draft_of_key(key: Key, offered: Collection[str]) -> Draft:
    """Return what a key has; scopes that are not offered are in the field for others."""
    has_end = key.HasField("expire_time")
    return Draft(
        key.display_name,
        key.description,
        list(key.scopes),
        " ".join(scope for scope in key.scopes if scope not in offered),
        contacts_of(key.technical_contacts),
        KEEP,
        # The day whose end is nearest; it only helps to choose another one.
        (instant(key.expire_time) - timedelta(days=1)).date().isoformat() if has_end else "",
        annotations=annotations_of(key.annotations),
        networks=networks_of(key.allowed_networks),
        limits=limits_of(key.rate_limits),
        credits=credits_of(key),
    )


def create_request(draft: Draft, owner_id: str, request_id: str) -> CreateKeyRequest:
    """Return the request that creates the key. Raises Problem."""
    asked = CreateKeyRequest(
        owner_id=owner_id,
        display_name=draft.name,
        description=draft.description,
        scopes=draft.all_scopes,
        technical_contacts=draft.contacts.messages,
        environment=draft.environment,
        annotations=draft.annotations.values(),
        allowed_networks=draft.networks.values,
        rate_limits=draft.limits.messages,
        credits=draft.credits.message,
        seal_to=draft.seal_to,
        request_id=request_id,
    )
    if draft.expiry == DATE:
        asked.expire_time.CopyFrom(draft.expire_time())
    elif draft.expiry in PRESETS:
        asked.expiration_preset = PRESETS[draft.expiry]
    else:
        raise Problem(_INVALID, "EXPIRY", fields={"expire_time": ""})
    return asked
