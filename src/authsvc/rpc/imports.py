"""Converts the messages of ImportKeys, and `key_hash` of CreateKey."""

from collections.abc import Callable

from google.protobuf.message import Message

from authsvc.keys.importing import Candidate
from authsvc.model.allowed_networks import checked_networks
from authsvc.model.errors import AuthsvcError, FieldViolation, InvalidArgument
from authsvc.model.expiration import ExpirationPreset
from authsvc.model.foreign_secret import ForeignSecret
from authsvc.model.key import Key
from authsvc.model.new_key import NewKey
from authsvc.rpc.convert import contacts, instant
from authsvc.rpc.rate_limits import limits_of
from authsvc.rpc.validation import validator
from authsvc.v1 import key_service_pb2 as pb

# Characters of an answer.
_MAX_MESSAGE_LENGTH, _MAX_FIELD_LENGTH = 500, 100
_check: Callable[[Message], None] = validator(pb.ImportedKey.DESCRIPTOR)


def digest(request: pb.CreateKeyRequest) -> ForeignSecret | None:
    """Return what `key_hash` of a request says, if it is set. Raises InvalidArgument."""
    if not request.key_hash:
        return None
    for name in ("seal_to", "brand", "environment"):
        if getattr(request, name):
            problem = "is not used with key_hash, since the client has made the key string; leave it empty"
            raise InvalidArgument(FieldViolation(name, f"{name}.unused", problem))
    return ForeignSecret.of_digest("key_hash", request.key_hash)


def candidate(owner_id: str, imported: pb.ImportedKey) -> Candidate | AuthsvcError:
    """Return a key to import, or what is wrong with it by itself."""
    try:
        _check(imported)
        secret = ForeignSecret.of_hash(imported.hash, imported.look_up_prefix)
        return Candidate(_new_key(owner_id, imported), secret)
    except InvalidArgument as error:
        return error


def _new_key(owner_id: str, imported: pb.ImportedKey) -> NewKey:
    has_end = imported.HasField("expire_time")
    return NewKey(
        owner_id=owner_id,
        display_name=imported.display_name,
        description=imported.description,
        scopes=tuple(imported.scopes),
        technical_contacts=contacts(imported.technical_contacts),
        annotations=dict(imported.annotations),
        expiration=instant(imported.expire_time) if has_end else ExpirationPreset.UNLIMITED,
        allowed_networks=checked_networks(imported.allowed_networks, "allowed_networks"),
        rate_limits=limits_of(imported.rate_limits, "rate_limits"),
    )


def result(told: Key | AuthsvcError, *, validate_only: bool) -> pb.ImportKeyResult:
    """Return what has become of one key."""
    if isinstance(told, Key):
        return pb.ImportKeyResult(key_id="" if validate_only else told.key_id)
    field = told.violations[0].field if isinstance(told, InvalidArgument) else told.metadata.get("field", "")
    error = pb.ImportError(
        reason=told.reason, message=told.message[:_MAX_MESSAGE_LENGTH], field=field[:_MAX_FIELD_LENGTH]
    )
    return pb.ImportKeyResult(key_id=told.metadata.get("key_id", ""), error=error)
