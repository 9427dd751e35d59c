"""What is typed into the form of a policy: read from the form, or from a policy, and made a policy again."""

import re
from collections.abc import Collection
from typing import NamedTuple

import grpc

from authsvc.v1 import owner_policy_service_pb2 as pb
from authsvc.web.console.forms import Form
from authsvc.web.console.length import Length, length_of, length_of_form
from authsvc.web.console.networks import Networks, networks_of, networks_of_form
from authsvc.web.console.problem import Problem
from authsvc.web.console.rate_limits import FIELD as LIMITS
from authsvc.web.console.rate_limits import Limits, limits_of, limits_of_form, same_limits
from authsvc.web.console.selection import Selection, selection_of, selection_of_form

#: The values of enumerations by their names in the form.
EDITS = {number: name.removeprefix("KEY_EDITS_") for name, number in pb.KeyEdits.items() if number}
MANAGERS = {number: name.removeprefix("KEY_MANAGERS_") for name, number in pb.KeyManagers.items() if number}
#: The fields that can be changed, in the order of the form.
FIELDS = (
    "keys_enabled",
    "max_active_keys",
    "allowed_scopes",
    "max_key_lifetime",
    "expiration_required",
    "contacts_required",
    "key_edits",
    "key_managers",
    "rotation_period",
    "brand",
    "allowed_networks",
    "rate_limits",
)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class PolicyDraft(NamedTuple):
    """The fields of the form, as they are typed. What has no limit is empty."""

    keys_enabled: bool
    max_active_keys: str
    scopes: Selection
    max_key_lifetime: Length
    expiration_required: bool
    contacts_required: bool
    key_edits: str
    key_managers: str
    rotation_period: Length
    brand: str
    networks: Networks
    limits: Limits

    def policy(self, before: pb.OwnerPolicy) -> pb.OwnerPolicy:
        """Return the policy that takes the place of the one `before`. Raises Problem."""
        edits = {name: number for number, name in EDITS.items()}
        managers = {name: number for number, name in MANAGERS.items()}
        return pb.OwnerPolicy(
            owner_id=before.owner_id,
            keys_enabled=self.keys_enabled,
            max_active_keys=self._most(),
            allowed_scopes=self.scopes.values(before.allowed_scopes, "allowed_scopes"),
            max_key_lifetime=self.max_key_lifetime.duration("max_key_lifetime"),
            expiration_required=self.expiration_required,
            contacts_required=self.contacts_required,
            key_edits=edits.get(self.key_edits, pb.KEY_EDITS_UNSPECIFIED),
            key_managers=managers.get(self.key_managers, pb.KEY_MANAGERS_UNSPECIFIED),
            rotation_period=self.rotation_period.duration("rotation_period"),
            brand=self.brand,
            allowed_networks=self.networks.values,
            rate_limits=self.limits.messages,
        )

    def _most(self) -> int:
        if not self.max_active_keys:
            return 0
        # Nobody who types 0 means that there is no limit, which is what the RPC would take it for.
        if _NUMBER.fullmatch(self.max_active_keys) and (most := int(self.max_active_keys)):
            return most
        raise Problem(grpc.StatusCode.INVALID_ARGUMENT, "NO_COUNT", fields={"max_active_keys": ""})


def draft_of_form(form: Form) -> PolicyDraft:
    """Return what was typed."""
    return PolicyDraft(
        "keys_enabled" in form,
        form("max_active_keys"),
        selection_of_form(form, "scope"),
        length_of_form(form, "max_key_lifetime"),
        "expiration_required" in form,
        "contacts_required" in form,
        form("key_edits"),
        form("key_managers"),
        length_of_form(form, "rotation_period"),
        form("brand"),
        networks_of_form(form),
        limits_of_form(form),
    )


def draft_of_policy(policy: pb.OwnerPolicy, offered: Collection[str]) -> PolicyDraft:
    """Return what a policy has."""
    return PolicyDraft(
        policy.keys_enabled,
        str(policy.max_active_keys or ""),
        selection_of(policy.allowed_scopes, offered),
        length_of(policy.max_key_lifetime),
        policy.expiration_required,
        policy.contacts_required,
        EDITS.get(policy.key_edits, ""),
        MANAGERS.get(policy.key_managers, ""),
        length_of(policy.rotation_period),
        policy.brand,
        networks_of(policy.allowed_networks),
        limits_of(policy.rate_limits),
    )


def differing(one: pb.OwnerPolicy, other: pb.OwnerPolicy) -> list[str]:
    """Return the fields in which two policies differ."""
    same = {LIMITS} if same_limits(one.rate_limits, other.rate_limits) else frozenset()
    return [name for name in FIELDS if name not in same and getattr(one, name) != getattr(other, name)]
