"""OwnerPolicyService: each RPC calls a use case between two conversions."""

from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from authsvc.keys.policies import Policies
from authsvc.model.allowed_networks import checked_networks
from authsvc.model.caller import Caller
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.policy import KeyEdits, KeyManagers, OwnerPolicy
from authsvc.rpc.convert import timestamp
from authsvc.rpc.rate_limits import limit_messages, limits_of
from authsvc.rpc.update_mask import mask_violations
from authsvc.v1 import owner_policy_service_pb2 as pb

_EDITS = {edits: pb.KeyEdits.Value(f"KEY_EDITS_{edits.name}") for edits in KeyEdits}
_MANAGERS = {managers: pb.KeyManagers.Value(f"KEY_MANAGERS_{managers.name}") for managers in KeyManagers}
_EDITABLE = (
    "allowed_networks",
    "allowed_scopes",
    "brand",
    "contacts_required",
    "expiration_required",
    "key_edits",
    "key_managers",
    "keys_enabled",
    "max_active_keys",
    "max_key_lifetime",
    "rate_limits",
    "rotation_period",
)


class OwnerPolicyService:
    """Serves `authsvc.v1.OwnerPolicyService`; the comments in the proto are its specification."""

    descriptor: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["OwnerPolicyService"]

    def __init__(self, policies: Policies) -> None:
        self._policies = policies

    async def GetOwnerPolicy(self, caller: Caller, request: pb.GetOwnerPolicyRequest) -> pb.OwnerPolicy:
        """Show an owner's policy."""
        return _message(await self._policies.get(caller, request.owner_id))

    async def UpdateOwnerPolicy(self, caller: Caller, request: pb.UpdateOwnerPolicyRequest) -> pb.OwnerPolicy:
        """Change an owner's policy."""
        asked = request.policy
        return _message(
            await self._policies.update(caller, asked.owner_id, _changed_fields(request), asked.etag)
        )


def _message(policy: OwnerPolicy) -> pb.OwnerPolicy:
    message = pb.OwnerPolicy(
        owner_id=policy.owner_id,
        keys_enabled=policy.keys_enabled,
        max_active_keys=policy.max_active_keys,
        allowed_scopes=policy.allowed_scopes,
        allowed_networks=policy.allowed_networks,
        rate_limits=limit_messages(policy.rate_limits),
        expiration_required=policy.expiration_required,
        contacts_required=policy.contacts_required,
        key_edits=_EDITS[policy.key_edits],
        brand=policy.brand,
        update_time=timestamp(policy.update_time),
        etag=policy.etag,
        key_managers=_MANAGERS[policy.key_managers],
    )
    if policy.max_key_lifetime:
        message.max_key_lifetime.FromTimedelta(policy.max_key_lifetime)
    if policy.rotation_period:
        message.rotation_period.FromTimedelta(policy.rotation_period)
    return message


def _changed_fields(request: pb.UpdateOwnerPolicyRequest) -> dict[str, object]:
    """Return the fields that the mask names, with their new values; raise InvalidArgument (rule 8)."""
    policy, paths = request.policy, list(request.update_mask.paths)
    violations = mask_violations(paths, _EDITABLE, pb.OwnerPolicy.DESCRIPTOR)
    names = _EDITABLE if paths == ["*"] else paths
    edits = {number: edits for edits, number in _EDITS.items()}.get(policy.key_edits)
    managers = {number: managers for managers, number in _MANAGERS.items()}.get(policy.key_managers)
    for name, value in (("key_edits", edits), ("key_managers", managers)):
        if name in names and value is None:
            problem = f"is required; {name} cannot be empty"
            violations.append(FieldViolation(f"policy.{name}", "enum.not_in", problem))
    if violations:
        raise InvalidArgument(*violations)
    values: dict[str, object] = {
        "keys_enabled": policy.keys_enabled,
        "max_active_keys": policy.max_active_keys,
        "allowed_scopes": tuple(sorted(policy.allowed_scopes)),
        "allowed_networks": checked_networks(policy.allowed_networks, "policy.allowed_networks"),
        "rate_limits": limits_of(policy.rate_limits, "policy.rate_limits"),
        "max_key_lifetime": policy.max_key_lifetime.ToTimedelta(),
        "expiration_required": policy.expiration_required,
        "contacts_required": policy.contacts_required,
        "key_edits": edits,
        "key_managers": managers,
        "brand": policy.brand,
        "rotation_period": policy.rotation_period.ToTimedelta(),
    }
    return {name: values[name] for name in names}
