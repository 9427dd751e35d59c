"""Converts protobuf messages to values of the model, and back."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from authsvc.keys.sealing import Recipient
from authsvc.keys.token_verifier import TokenVerdict
from authsvc.model.address import normalized
from authsvc.model.allowed_networks import checked_networks
from authsvc.model.credential import CredentialKind
from authsvc.model.errors import FieldViolation, InvalidArgument
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.key import Key, KeyState, RevokeCause, TechnicalContact
from authsvc.model.key_query import KeyFilter, KeyOrder, KeyQuery
from authsvc.model.look_up import shown
from authsvc.model.new_key import NewKey
from authsvc.model.verdict import Verdict, VerdictCode
from authsvc.rpc.credits import credits_message, credits_of
from authsvc.rpc.rate_limits import limit_messages, limits_of, set_limits, states_bytes
from authsvc.rpc.update_mask import mask_violations
from authsvc.v1 import key_service_pb2 as service_pb
from authsvc.v1 import resources_pb2 as pb

_NOT_FOUND = service_pb.VerifyKeyResponse(code=pb.VERDICT_CODE_NOT_FOUND).SerializeToString()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATES = {state: pb.KeyState.Value(f"KEY_STATE_{state.value}") for state in KeyState}
_NO_CAUSE = pb.RevokeCause.Value("REVOKE_CAUSE_UNSPECIFIED")
_CAUSES = {cause: pb.RevokeCause.Value(f"REVOKE_CAUSE_{cause.name}") for cause in RevokeCause}
CODES = {code: pb.VerdictCode.Value(f"VERDICT_CODE_{code.value}") for code in VerdictCode}
_PRESETS = {
    service_pb.ExpirationPreset.Value(f"EXPIRATION_PRESET_{preset.name}"): preset
    for preset in ExpirationPreset
}
_EDITABLE = (
    "allowed_networks",
    "annotations",
    "credits",
    "description",
    "display_name",
    "expire_time",
    "rate_limits",
    "scopes",
    "technical_contacts",
)


def key_message(key: Key, now: datetime) -> pb.Key:
    """Return a key as it is at `now`."""
    return pb.Key(
        key_id=key.key_id,
        owner_id=key.owner_id,
        display_name=key.display_name,
        description=key.description,
        key_prefix=shown(key.key_prefix),
        scopes=key.scopes,
        technical_contacts=contact_messages(key.technical_contacts),
        state=_STATES[key.state(now)],
        create_time=timestamp(key.create_time),
        creator_id=key.creator_id,
        update_time=timestamp(key.update_time),
        expire_time=timestamp(key.expire_time),
        revoke_time=timestamp(key.revoke_time),
        revoker_id=key.revoker_id,
        revoke_reason=key.revoke_reason,
        revoke_cause=_NO_CAUSE if key.revoke_time is None else _CAUSES[key.revoke_cause],
        last_use_time=timestamp(key.last_use_time),
        # Earlier releases kept other spellings.
        last_use_ip=normalized(key.last_use_ip),
        rotated_from_key_id=key.rotated_from_key_id,
        rotated_to_key_id=key.rotated_to_key_id,
        annotations=key.annotations,
        etag=key.etag,
        never_delivered=key.never_delivered(now),
        allowed_networks=key.allowed_networks,
        imported=key.is_imported,
        rate_limits=limit_messages(key.rate_limits),
        credits=credits_message(key.credits),
        **_pause_fields(key, now),
    )


def _pause_fields(key: Key, now: datetime) -> dict[str, Any]:
    """Return what is shown of a pause; one that is over is shown no more."""
    if (pause := key.pause) is None or not pause.lasts(now):
        return {}
    return {
        "disable_time": timestamp(pause.disable_time),
        "disabled_until": timestamp(pause.until),
        "disabler_id": pause.disabler_id,
        "disable_reason": pause.reason,
        "disabled_by_platform": pause.by_platform,
    }


def key_summary(key: Key, now: datetime) -> pb.Key:
    """Return what a key is and whether it works, in at most a few hundred bytes."""
    return pb.Key(
        key_id=key.key_id,
        owner_id=key.owner_id,
        key_prefix=shown(key.key_prefix),
        state=_STATES[key.state(now)],
        revoke_time=timestamp(key.revoke_time),
    )


def successor_summary(key: Key, now: datetime) -> pb.Key:
    """Return what the holder of a new key has to know of it, without what takes `keys:read`."""
    message = key_summary(key, now)
    message.scopes.extend(key.scopes)
    message.rotated_from_key_id = key.rotated_from_key_id
    set_timestamp(message.create_time, key.create_time)
    if key.expire_time is not None:
        set_timestamp(message.expire_time, key.expire_time)
    return message


def verdict_message(verdict: Verdict) -> service_pb.VerifyKeyResponse:
    """Return a verdict as a message. The hot path: fields without a value are not touched."""
    code, credential, limits, retry_after = verdict
    if credential is None:
        return service_pb.VerifyKeyResponse(code=CODES[code])
    message = service_pb.VerifyKeyResponse(
        valid=code is VerdictCode.VALID,
        code=CODES[code],
        key_id=credential.credential_id,
        owner_id=credential.owner_id,
        scopes=credential.scopes,
    )
    if credential.expire_time is not None:
        set_timestamp(message.expire_time, credential.expire_time)
    if credential.annotations:
        message.annotations.update(credential.annotations)
    if limits is not None:
        set_limits(message, limits, retry_after)
    return message


def verdict_answer(verdict: Verdict) -> bytes:
    """Return a verdict as a serialized message. The part that does not change is kept beside a valid key."""
    code, credential, limits, _ = verdict
    if code is not VerdictCode.VALID or credential is None:
        return _NOT_FOUND if credential is None else verdict_message(verdict).SerializeToString()
    if not (answer := credential.answer):
        answer = verdict_message(Verdict(code, credential)).SerializeToString()
        credential.keep_answer(answer)
    # The fields of both parts are those of one message.
    return answer if limits is None else answer + states_bytes(limits)


def token_message(told: TokenVerdict) -> service_pb.VerifyTokenResponse:
    """Return a verdict on a token as a message."""
    code, credential, limits, retry_after = told.verdict
    if credential is None:
        return service_pb.VerifyTokenResponse(code=CODES[code])
    is_key = credential.kind is CredentialKind.KEY
    message = service_pb.VerifyTokenResponse(
        valid=code is VerdictCode.VALID,
        code=CODES[code],
        key_id=credential.credential_id if is_key else "",
        session_id="" if is_key else credential.credential_id,
        owner_id=credential.owner_id,
        scopes=credential.scopes,
        expire_time=timestamp(credential.expire_time),
        annotations=credential.annotations,
        token_id=told.token_id,
    )
    if limits is not None:
        set_limits(message, limits, retry_after)
    return message


def presented(text: str) -> str:
    """Return a key string or session token without the blanks and line ends that people paste with it."""
    return text.strip()


def new_key(request: service_pb.CreateKeyRequest) -> NewKey:
    """Return the new key that a request asks for."""
    match request.WhichOneof("expiration"):
        case "expire_time":
            expiration: object = instant(request.expire_time)
        case "ttl":
            expiration = request.ttl.ToTimedelta()
        case "expiration_preset":
            expiration = _PRESETS[request.expiration_preset]
        case _:
            expiration = ExpirationPreset.UNLIMITED
    return NewKey(
        owner_id=request.owner_id,
        display_name=request.display_name,
        description=request.description,
        scopes=tuple(request.scopes),
        technical_contacts=contacts(request.technical_contacts),
        annotations=dict(request.annotations),
        expiration=expiration,  # type: ignore[arg-type]
        brand=request.brand,
        environment=request.environment,
        allowed_networks=checked_networks(request.allowed_networks, "allowed_networks"),
        rate_limits=limits_of(request.rate_limits, "rate_limits"),
        credits=credits_of(request),
    )


def recipient(seal_to: str) -> Recipient | None:
    """Return the recipient that `seal_to` of a request names, if any. Raises InvalidArgument."""
    return Recipient.parse("seal_to", seal_to) if seal_to else None


def key_query(request: service_pb.ListKeysRequest) -> KeyQuery:
    """Return the filter and the order of a list of keys."""
    asked = request.filter

    def bound(name: str) -> datetime | None:
        return instant(getattr(asked, name)) if asked.HasField(name) else None  # type: ignore[arg-type]

    wanted = KeyFilter(
        states=tuple(state for state, number in _STATES.items() if number in asked.states),
        query=asked.query,
        creator_id=asked.creator_id,
        scope=asked.scope,
        create_time_after=bound("create_time_after"),
        create_time_before=bound("create_time_before"),
        expire_time_before=bound("expire_time_before"),
        unused_since=bound("unused_since"),
    )
    return KeyQuery(request.owner_id, wanted, KeyOrder.parse(request.order_by))


def changed_fields(request: service_pb.UpdateKeyRequest) -> dict[str, object]:
    """Return the fields that an update mask names, with their new values (AIP-161).

    Raises InvalidArgument for fields that cannot be changed: nothing is silently ignored (rule 8).
    """
    key, paths = request.key, list(request.update_mask.paths)
    violations = mask_violations(paths, _EDITABLE, pb.Key.DESCRIPTOR)
    if not key.key_id:
        violations.append(
            FieldViolation("key.key_id", "key_id.required", "is required; set it to the key to change")
        )
    names = _EDITABLE if paths == ["*"] else paths
    if "display_name" in names and not key.display_name:
        violations.append(FieldViolation("key.display_name", "string.name", "must not be empty"))
    if violations:
        raise InvalidArgument(*violations)
    values: dict[str, object] = {
        "display_name": key.display_name,
        "description": key.description,
        "technical_contacts": contacts(key.technical_contacts),
        "scopes": tuple(sorted(set(key.scopes))),
        "expire_time": instant(key.expire_time) if key.HasField("expire_time") else None,
        "annotations": dict(key.annotations),
        "allowed_networks": checked_networks(key.allowed_networks, "key.allowed_networks"),
        "rate_limits": limits_of(key.rate_limits, "key.rate_limits"),
        "credits": credits_of(key),
    }
    return {name: values[name] for name in names}


def instant(timestamp: Timestamp) -> datetime:
    """Return a timestamp of a validated request as a datetime in UTC, cut to microseconds."""
    return timestamp.ToDatetime(tzinfo=UTC)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a datetime in UTC as a message; None for None."""
    if moment is None:
        return None
    timestamp = Timestamp()
    set_timestamp(timestamp, moment)
    return timestamp


def set_timestamp(timestamp: Timestamp, moment: datetime) -> None:
    """Do what Timestamp.FromDatetime does for a datetime in UTC, in a third of its time."""
    since = moment - _EPOCH
    timestamp.seconds = since.days * 86400 + since.seconds
    timestamp.nanos = since.microseconds * 1000


def contacts(messages: Iterable[pb.TechnicalContact]) -> tuple[TechnicalContact, ...]:
    """Return the contacts in messages."""
    return tuple(TechnicalContact(contact.name, contact.email) for contact in messages)


def contact_messages(contacts: Iterable[TechnicalContact]) -> list[pb.TechnicalContact]:
    """Return contacts as messages."""
    return [pb.TechnicalContact(name=contact.name, email=contact.email) for contact in contacts]
